"""What every store must do: subclassed by the tests of each store, which give it a `store` fixture.

The fixture's store may hold other keys; these tests write below prefixes of their own.
"""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time

import pytest

from kvspark.cache.store.base import Store
from kvspark.cache.store.slab import Part
from tests.cache.parts import in_order

ANY_BYTES = bytes(range(256))


class StoreContract:
    def test_a_missing_key_is_none(self, store: Store, key):
        assert store.get_many([key(b"absent")]) == [None]

    def test_what_was_set_is_got_in_the_order_of_the_keys(self, store: Store, key):
        assert store.set_many([(key(b"a"), b"1"), (key(b"b"), b"2")], ttl_s=None) == 2
        assert store.get_many([key(b"b"), key(b"c"), key(b"a")]) == [b"2", None, b"1"]

    def test_keys_and_values_are_any_bytes(self, store: Store, key):
        values = [b"", b"\r\n$3\r\nabc\r\n", ANY_BYTES, ANY_BYTES * 4_096]
        keys = [key(value[:300]) for value in values]
        store.set_many(list(zip(keys, values, strict=True)), ttl_s=60)
        assert store.get_many(keys) == values

    def test_windows_are_answered_in_parts(self, store: Store, key):
        even = [(key(b"even%d" % row), b"%012d" % row) for row in range(900)]
        odd = [(key(b"odd%d" % row), b"x" * row) for row in range(1, 30)]
        store.set_many([*even, *odd], ttl_s=60)
        known = dict([*even, *odd])
        keys = [*known, key(b"absent"), *reversed(known), key(b"absent"), even[0][0]]
        windows = [keys[at : at + 170] for at in range(0, len(keys), 170)]
        parts: list[Part] = []
        store.get_each(iter(windows), parts.append, value_bytes=12, left_s=lambda: 5.0)
        assert in_order(parts) == [known.get(each) for each in keys]
        parts.clear()
        store.get_each(iter([]), parts.append, value_bytes=12, left_s=lambda: 5.0)
        assert parts == []

    def test_a_call_that_is_broken_off_leaves_nothing_for_the_next_one(self, store: Store, key):
        entries = [(key(b"cut%d" % row), b"%012d" % row) for row in range(900)]
        store.set_many(entries, ttl_s=60)
        keys = [each for each, _ in entries]
        windows = [keys[at : at + 100] for at in range(0, 900, 100)]

        def take(part: Part) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            store.get_each(iter(windows), take, value_bytes=12, left_s=lambda: 5.0)
        assert store.get_many(keys[:2]) == [entries[0][1], entries[1][1]]

    def test_windows_are_written_in_their_order(self, store: Store, key):
        entries = [(key(b"w%d" % (row % 800)), b"%d" % row * (row % 50)) for row in range(900)]
        counts: list[int] = []
        windows = (entries[at : at + 70] for at in range(0, 900, 70))
        store.set_each(windows, counts.append, ttl_s=60, left_s=lambda: 5.0)
        assert counts == [70] * 12 + [60]
        known = dict(entries)
        assert store.get_many(list(known)) == list(known.values())
        store.set_each(iter([]), counts.append, ttl_s=60, left_s=lambda: 5.0)
        assert len(counts) == 13

    def test_a_write_that_is_broken_off_leaves_nothing_for_the_next_call(self, store: Store, key):
        entries = [(key(b"broken%d" % row), b"%012d" % row) for row in range(900)]
        counts: list[int] = []

        def windows():
            yield from (entries[at : at + 100] for at in range(0, 600, 100))
            raise LookupError

        with pytest.raises(LookupError):
            store.set_each(windows(), counts.append, ttl_s=60, left_s=lambda: 5.0)
        assert 0 < len(counts) <= 6
        told = entries[: 100 * len(counts)]
        assert store.get_many([each for each, _ in told]) == [value for _, value in told]
        assert store.get_many([entries[-1][0]]) == [None]

    def test_no_keys_are_no_work(self, store: Store):
        assert store.get_many([]) == []
        assert store.set_many([], ttl_s=None) == 0
        assert store.delete_many([]) == 0

    def test_a_key_that_is_named_twice_is_answered_twice(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=None)
        assert store.get_many([key(b"a"), key(b"a")]) == [b"1", b"1"]

    def test_the_last_of_two_entries_with_one_key_stays(self, store: Store, key):
        store.set_many([(key(b"a"), b"1"), (key(b"a"), b"2")], ttl_s=None)
        assert store.get_many([key(b"a")]) == [b"2"]

    def test_setting_again_replaces(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=None)
        store.set_many([(key(b"a"), b"other")], ttl_s=60)
        assert store.get_many([key(b"a")]) == [b"other"]

    def test_deleted_keys_are_missing_and_counted_once(self, store: Store, key):
        store.set_many([(key(b"a"), b"1"), (key(b"b"), b"2")], ttl_s=None)
        assert store.delete_many([key(b"a"), key(b"a"), key(b"c")]) == 1
        assert store.get_many([key(b"a"), key(b"b")]) == [None, b"2"]

    def test_keys_are_found_by_what_they_begin_with(self, store: Store, key):
        prefix = key(b"*[scan")
        wanted = {prefix + b"%d" % number for number in range(1_500)}
        store.set_many([(each, b"") for each in wanted], ttl_s=60)
        store.set_many([(key(b"other"), b"")], ttl_s=60)
        assert {each for some in store.scan(prefix) for each in some} == wanted
        assert not any(store.scan(prefix + b"x"))

    def test_an_entry_is_gone_after_its_ttl(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=0.05)
        store.set_many([(key(b"b"), b"2")], ttl_s=60)
        store.set_many([(key(b"c"), b"3")], ttl_s=None)
        time.sleep(0.1)
        assert store.get_many([key(b"a"), key(b"b"), key(b"c")]) == [None, b"2", b"3"]

    def test_setting_again_starts_the_ttl_anew(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=0.05)
        store.set_many([(key(b"a"), b"1")], ttl_s=60)
        time.sleep(0.1)
        assert store.get_many([key(b"a")]) == [b"1"]

    def test_the_shortest_ttl_is_still_a_ttl(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=1e-9)
        time.sleep(0.01)
        assert store.get_many([key(b"a")]) == [None]

    def test_thousands_of_entries_are_one_call(self, store: Store, key):
        entries = [(key(b"%d" % row), b"%d" % row * 40) for row in range(3_000)]
        assert store.set_many(entries, ttl_s=60) == 3_000
        assert store.get_many([name for name, _ in entries]) == [value for _, value in entries]
        assert store.delete_many([name for name, _ in entries]) == 3_000

    def test_a_healthy_store_answers_a_ping(self, store: Store):
        store.ping()
        store.ping(timeout_s=5)

    def test_a_closed_store_opens_again(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=None)
        store.close()
        store.close()
        assert store.get_many([key(b"a")]) in ([b"1"], [None])
        store.set_many([(key(b"a"), b"2")], ttl_s=None)
        assert store.get_many([key(b"a")]) == [b"2"]

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
                store.set_many(entries, ttl_s=60)
                if store.get_many([one for one, _ in entries]) != [name * 100] * 50:
                    wrong.append(name)

        threads = [threading.Thread(target=work, args=(b"%d/" % i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_a_forked_child_and_its_parent_both_go_on(self, store: Store, key):
        store.set_many([(key(b"a"), b"1")], ttl_s=60)
        pid = os.fork()
        if pid == 0:  # the child: leave without pytest's own end
            is_right = False
            try:
                is_right = store.get_many([key(b"a")]) == [b"1"]
                store.set_many([(key(b"a"), b"child")], ttl_s=60)
            finally:
                os._exit(0 if is_right else 1)
        for _ in range(20):
            assert store.get_many([key(b"a")])[0] in (b"1", b"child")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.ping()
