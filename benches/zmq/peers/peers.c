/* What stands around a ZeroMQ relay in the benchmark, all on libzmq, in one program:
 *
 *     peers pod ADDRESS                               a REP socket that sends every request back
 *     peers proxy ADDRESS POD...                      libzmq's own zmq_proxy: the peer to beat
 *     peers load ADDRESS OUTSTANDING SECONDS BYTES    a DEALER socket that keeps so many requests in flight
 *     peers version                                   the version of libzmq
 *
 * A request is [empty][key][body], as REQ sends it; the keys are 1,024 different ones. `load` prints one
 * JSON object. Any failure ends the program with a reason on its error stream.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { KEYS = 1024, OUTSTANDING_MAX = 1024, SAMPLES_MAX = 8 * 1000 * 1000, REPLY_MS_MAX = 5000, FRAMES_MAX = 8 };

static void check(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "%s: %s\n", what, zmq_strerror(errno));
        exit(1);
    }
}

static double now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void *open_socket(void *context, int kind) {
    void *socket = zmq_socket(context, kind);
    int unlimited = 0;
    check(socket != NULL, "socket");
    check(zmq_setsockopt(socket, ZMQ_SNDHWM, &unlimited, sizeof unlimited) == 0, "ZMQ_SNDHWM");
    check(zmq_setsockopt(socket, ZMQ_RCVHWM, &unlimited, sizeof unlimited) == 0, "ZMQ_RCVHWM");
    return socket;
}

static void bind_to(void *socket, const char *address) {
    check(zmq_bind(socket, address) == 0, address);
}

static void connect_to(void *socket, const char *address) {
    check(zmq_connect(socket, address) == 0, address);
}

static int run_pod(void *context, const char *address) {
    void *socket = open_socket(context, ZMQ_REP);
    bind_to(socket, address);
    for (;;) {
        zmq_msg_t frames[FRAMES_MAX];
        int count = 0;
        do {
            check(count < FRAMES_MAX && zmq_msg_init(&frames[count]) == 0, "frame");
            check(zmq_msg_recv(&frames[count], socket, 0) >= 0, "receive");
        } while (zmq_msg_more(&frames[count++]));
        for (int frame = 0; frame < count; frame++)
            check(zmq_msg_send(&frames[frame], socket, frame + 1 < count ? ZMQ_SNDMORE : 0) >= 0, "send");
    }
    return 0;
}

static int run_proxy(void *context, const char *address, int pods, char **pod_addresses) {
    void *front = open_socket(context, ZMQ_ROUTER);
    void *back = open_socket(context, ZMQ_DEALER);
    for (int pod = 0; pod < pods; pod++)
        connect_to(back, pod_addresses[pod]);
    bind_to(front, address);
    return zmq_proxy(front, back, NULL);
}

struct load {
    void *socket;
    const char *body;
    size_t body_bytes;
    double sent_at[OUTSTANDING_MAX];
    float *samples;
    size_t calls, failed;
};

/* The place of a request in flight travels with its key, so that its reply finds its start. */
static void ask(struct load *load, unsigned place) {
    char key[32];
    int key_bytes = snprintf(key, sizeof key, "%04u:symbol-%zu", place, (load->calls * 7919) % KEYS);
    load->sent_at[place] = now_us();
    check(zmq_send(load->socket, "", 0, ZMQ_SNDMORE) == 0, "send");
    check(zmq_send(load->socket, key, (size_t)key_bytes, ZMQ_SNDMORE) == key_bytes, "send");
    check(zmq_send(load->socket, load->body, load->body_bytes, 0) == (int)load->body_bytes, "send");
}

static unsigned hear(struct load *load) {
    char key[32] = "";
    unsigned place = 0, frames = 0;
    int more = 1;
    while (more) {
        zmq_msg_t frame;
        check(zmq_msg_init(&frame) == 0, "frame");
        check(zmq_msg_recv(&frame, load->socket, 0) >= 0, "no reply");
        if (++frames == 2 && zmq_msg_size(&frame) < sizeof key)
            memcpy(key, zmq_msg_data(&frame), zmq_msg_size(&frame));
        if (frames == 3 && zmq_msg_size(&frame) != load->body_bytes)
            frames++;
        more = zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    }
    check(sscanf(key, "%4u:", &place) == 1 && place < OUTSTANDING_MAX, "the reply has another key");
    load->failed += frames != 3;
    if (load->calls < SAMPLES_MAX)
        load->samples[load->calls] = (float)(now_us() - load->sent_at[place]);
    load->calls++;
    return place;
}

static int ascending(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static int run_load(void *context, const char *address, unsigned outstanding, double seconds, size_t bytes) {
    struct load load = {.socket = open_socket(context, ZMQ_DEALER), .body_bytes = bytes};
    int patience_ms = REPLY_MS_MAX;
    load.body = calloc(bytes ? bytes : 1, 1);
    load.samples = malloc(SAMPLES_MAX * sizeof *load.samples);
    check(load.body && load.samples && outstanding >= 1 && outstanding <= OUTSTANDING_MAX, "arguments");
    check(zmq_setsockopt(load.socket, ZMQ_RCVTIMEO, &patience_ms, sizeof patience_ms) == 0, "ZMQ_RCVTIMEO");
    connect_to(load.socket, address);
    ask(&load, 0); /* Once, so that no connection is made while the clock runs. */
    hear(&load);
    load.calls = load.failed = 0;

    double start = now_us(), elapsed;
    for (unsigned place = 0; place < outstanding; place++)
        ask(&load, place);
    while ((elapsed = now_us() - start) < seconds * 1e6)
        ask(&load, hear(&load));
    for (unsigned place = 0; place < outstanding; place++)
        hear(&load);
    elapsed = now_us() - start;

    size_t samples = load.calls < SAMPLES_MAX ? load.calls : SAMPLES_MAX;
    qsort(load.samples, samples, sizeof *load.samples, ascending);
    printf("{\"calls\": %zu, \"failed\": %zu, \"elapsed_s\": %.6f, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
           load.calls, load.failed, elapsed / 1e6, load.samples[samples / 2], load.samples[samples * 99 / 100]);
    return 0;
}

int main(int count, char **words) {
    void *context = zmq_ctx_new();
    check(context != NULL, "context");
    if (count == 3 && strcmp(words[1], "pod") == 0)
        return run_pod(context, words[2]);
    if (count >= 4 && strcmp(words[1], "proxy") == 0)
        return run_proxy(context, words[2], count - 3, words + 3);
    if (count == 6 && strcmp(words[1], "load") == 0)
        return run_load(context, words[2], (unsigned)atoi(words[3]), atof(words[4]), (size_t)atol(words[5]));
    if (count == 2 && strcmp(words[1], "version") == 0) {
        int major, minor, patch;
        zmq_version(&major, &minor, &patch);
        return printf("%d.%d.%d\n", major, minor, patch) < 0;
    }
    fprintf(stderr, "usage: peers version | pod ADDRESS | proxy ADDRESS POD... | load ADDRESS OUTSTANDING SECONDS BYTES\n");
    return 2;
}
