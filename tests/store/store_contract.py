"""What every store must do: subclassed by the tests of each store, which give it a `store` fixture.

The fixture's store may hold other keys; these tests write below prefixes of their own.
"""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from contextlib import closing

import pytest

from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from tests.store.calls import (
    PATIENT_S,
    delete,
    get_many,
    ping,
    read,
    scanned,
    set_many,
    taken,
    written,
)
from tests.store.parts import in_order

ANY_BYTES = bytes(range(256))


class StoreContract:
    def test_a_missing_key_is_none(self, store: Store, key):
        assert get_many(store, [key(b"absent")]) == [None]

    def test_what_was_set_is_got_in_the_order_of_the_keys(self, store: Store, key):
        assert set_many(store, [(key(b"a"), b"1"), (key(b"b"), b"2")], ttl_s=None) == 2
        assert get_many(store, [key(b"b"), key(b"c"), key(b"a")]) == [b"2", None, b"1"]

    def test_keys_and_values_are_any_bytes(self, store: Store, key):
        values = [b"", b"\r\n$3\r\nabc\r\n", ANY_BYTES, ANY_BYTES * 4_096]
        keys = [key(value[:300]) for value in values]
        set_many(store, list(zip(keys, values, strict=True)), ttl_s=60)
        assert get_many(store, keys) == values

    def test_windows_are_answered_in_parts(self, store: Store, key):
        even = [(key(b"even%d" % row), b"%012d" % row) for row in range(900)]
        odd = [(key(b"odd%d" % row), b"x" * row) for row in range(1, 30)]
        set_many(store, [*even, *odd], ttl_s=60)
        known = dict([*even, *odd])
        keys = [*known, key(b"absent"), *reversed(known), key(b"absent"), even[0][0]]
        windows = [keys[at : at + 170] for at in range(0, len(keys), 170)]
        parts = read(store, windows, value_bytes=12)
        assert in_order(parts) == [known.get(each) for each in keys]
        assert read(store, [], value_bytes=12) == []

    def test_a_call_that_is_broken_off_leaves_nothing_for_the_next_one(self, store: Store, key):
        entries = [(key(b"cut%d" % row), b"%012d" % row) for row in range(900)]
        set_many(store, entries, ttl_s=60)
        keys = [each for each, _ in entries]
        windows = [keys[at : at + 100] for at in range(0, 900, 100)]
        with closing(store.read(windows, Deadline.after(PATIENT_S), value_bytes=12)) as parts:
            assert len(next(parts)) > 0
        assert get_many(store, keys[:2]) == [entries[0][1], entries[1][1]]

    def test_windows_are_written_in_their_order(self, store: Store, key):
        entries = [(key(b"w%d" % (row % 800)), b"%d" % row * (row % 50)) for row in range(900)]
        windows = (entries[at : at + 70] for at in range(0, 900, 70))
        assert written(store, windows, ttl_s=60) == [70] * 12 + [60]
        known = dict(entries)
        assert get_many(store, list(known)) == list(known.values())
        assert written(store, [], ttl_s=60) == []

    def test_a_write_that_nobody_takes_to_its_end_leaves_nothing_for_the_next_call(
        self, store: Store, key
    ):
        entries = [(key(b"left%d" % row), b"%012d" % row) for row in range(900)]
        windows = [entries[at : at + 100] for at in range(0, 900, 100)]
        with closing(store.write(windows, Deadline.after(PATIENT_S), ttl_s=60)) as counts:
            assert next(counts) == 100
        assert get_many(store, [each for each, _ in entries[:100]]) == [
            value for _, value in entries[:100]
        ]

    def test_a_write_that_is_broken_off_leaves_nothing_for_the_next_call(self, store: Store, key):
        entries = [(key(b"broken%d" % row), b"%012d" % row) for row in range(900)]
        counts: list[int] = []

        def windows():
            yield from (entries[at : at + 100] for at in range(0, 600, 100))
            raise LookupError

        with pytest.raises(LookupError):
            taken(store.write(windows(), Deadline.after(PATIENT_S), ttl_s=60), counts)
        assert 0 < len(counts) <= 6
        told = entries[: 100 * len(counts)]
        assert get_many(store, [each for each, _ in told]) == [value for _, value in told]
        assert get_many(store, [entries[-1][0]]) == [None]

    def test_no_keys_are_no_work(self, store: Store):
        assert get_many(store, []) == []
        assert set_many(store, [], ttl_s=None) == 0
        assert delete(store, []) == 0

    def test_a_key_that_is_named_twice_is_answered_twice(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=None)
        assert get_many(store, [key(b"a"), key(b"a")]) == [b"1", b"1"]

    def test_the_last_of_two_entries_with_one_key_stays(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1"), (key(b"a"), b"2")], ttl_s=None)
        assert get_many(store, [key(b"a")]) == [b"2"]

    def test_setting_again_replaces(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=None)
        set_many(store, [(key(b"a"), b"other")], ttl_s=60)
        assert get_many(store, [key(b"a")]) == [b"other"]

    def test_deleted_keys_are_missing_and_counted_once(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1"), (key(b"b"), b"2")], ttl_s=None)
        assert delete(store, [key(b"a"), key(b"a"), key(b"c")]) == 1
        assert get_many(store, [key(b"a"), key(b"b")]) == [None, b"2"]

    def test_keys_are_found_by_what_they_begin_with(self, store: Store, key):
        prefix = key(b"*[scan")
        wanted = {prefix + b"%d" % number for number in range(1_500)}
        set_many(store, [(each, b"") for each in wanted], ttl_s=60)
        set_many(store, [(key(b"other"), b"")], ttl_s=60)
        assert {*scanned(store, prefix)} == wanted
        assert scanned(store, prefix + b"x") == []

    def test_an_entry_is_gone_after_its_ttl(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=0.05)
        set_many(store, [(key(b"b"), b"2")], ttl_s=60)
        set_many(store, [(key(b"c"), b"3")], ttl_s=None)
        time.sleep(0.1)
        assert get_many(store, [key(b"a"), key(b"b"), key(b"c")]) == [None, b"2", b"3"]

    def test_setting_again_starts_the_ttl_anew(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=0.05)
        set_many(store, [(key(b"a"), b"1")], ttl_s=60)
        time.sleep(0.1)
        assert get_many(store, [key(b"a")]) == [b"1"]

    def test_the_shortest_ttl_is_still_a_ttl(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=1e-9)
        time.sleep(0.01)
        assert get_many(store, [key(b"a")]) == [None]

    def test_thousands_of_entries_are_one_call(self, store: Store, key):
        entries = [(key(b"%d" % row), b"%d" % row * 40) for row in range(3_000)]
        assert set_many(store, entries, ttl_s=60) == 3_000
        assert get_many(store, [name for name, _ in entries]) == [value for _, value in entries]
        assert delete(store, [name for name, _ in entries]) == 3_000

    def test_a_healthy_store_answers_a_ping(self, store: Store):
        ping(store)
        ping(store, timeout_s=5)

    def test_a_closed_store_opens_again(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=None)
        store.close()
        store.close()
        assert get_many(store, [key(b"a")]) in ([b"1"], [None])
        set_many(store, [(key(b"a"), b"2")], ttl_s=None)
        assert get_many(store, [key(b"a")]) == [b"2"]

    def test_a_store_is_not_picklable(self, store: Store):
        with pytest.raises(TypeError, match="configuration"):
            pickle.dumps(store)
        with pytest.raises(TypeError, match="configuration"):
            copy.deepcopy(store)

    def test_threads_take_turns(self, store: Store, key):
        wrong: list[bytes] = []

        def work(name: bytes) -> None:
            entries = [(key(name + b"%d" % row), name * 100) for row in range(50)]
            for _ in range(10):
                set_many(store, entries, ttl_s=60)
                if get_many(store, [one for one, _ in entries]) != [name * 100] * 50:
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(b"%d/" % i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_a_forked_child_and_its_parent_both_go_on(self, store: Store, key):
        set_many(store, [(key(b"a"), b"1")], ttl_s=60)
        pid = os.fork()
        if pid == 0:  # the child: leave without pytest's own end
            is_right = False
            try:
                is_right = get_many(store, [key(b"a")]) == [b"1"]
                set_many(store, [(key(b"a"), b"child")], ttl_s=60)
            finally:
                os._exit(0 if is_right else 1)
        for _ in range(20):
            assert get_many(store, [key(b"a")])[0] in (b"1", b"child")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        ping(store)
