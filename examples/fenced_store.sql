-- A store that is fenced by the term, for PostgreSQL. examples/fenced_store.py says what it is for.
--
-- One call is one transaction, or a part of the caller's: fence and effect come true together, or
-- neither does. Of two writers of a slot at the same time the second waits for the first, and is
-- then compared with what that has written: at READ COMMITTED, the default, and above.

CREATE TABLE fence (slot integer PRIMARY KEY, term bigint NOT NULL);
CREATE TABLE price (key text PRIMARY KEY, value text NOT NULL, writer text NOT NULL);

CREATE FUNCTION write_price(
    of_key text, to_value text, by_writer text, of_slot integer, under_term bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fence (slot, term) VALUES (of_slot, under_term)
    ON CONFLICT (slot) DO UPDATE SET term = excluded.term WHERE excluded.term >= fence.term;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fenced: term % of slot % is not the newest', under_term, of_slot
            USING HINT = 'another pod owns the slot by now; this write came too late';
    END IF;
    INSERT INTO price (key, value, writer) VALUES (of_key, to_value, by_writer)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, writer = excluded.writer;
END
$$;
