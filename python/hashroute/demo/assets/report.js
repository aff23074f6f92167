// Shows the figures of the moment under the mouse.
(() => {
  const svg = document.getElementById("timeline");
  const tip = document.getElementById("tip");
  const cursor = document.getElementById("cursor");
  const bins = JSON.parse(document.getElementById("tips").textContent);
  const { left, right, duration } = Object.fromEntries(
    Object.entries(svg.dataset).map(([name, value]) => [name, Number(value)]),
  );
  const latency = (name, value) => `${name} ${value === null ? "–" : `${value} ms`}`;

  const hide = () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };

  svg.addEventListener("mouseleave", hide);
  svg.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const at = ((x - left) / (right - left)) * duration;
    const bin = bins.findLast((candidate) => candidate.at <= at);
    if (!bin || at > duration) {
      hide();
      return;
    }
    const total = Object.values(bin.rates).reduce((sum, rate) => sum + rate, 0);
    tip.textContent = [
      `${bin.at.toFixed(1)} s   ${total} requests/s, ${bin.failed} failed`,
      `${latency("p50", bin.p50)}   ${latency("p99", bin.p99)}`,
      ...Object.entries(bin.rates).map(([pod, rate]) => `${pod}  ${rate}/s`),
    ].join("\n");
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    tip.hidden = false;
    const pointer = event.clientX - box.left;
    const flips = pointer > box.width - tip.offsetWidth - 40;
    tip.style.left = `${flips ? pointer - tip.offsetWidth - 16 : pointer + 16}px`;
    tip.style.top = `${event.clientY - box.top - 20}px`;
  });
})();
