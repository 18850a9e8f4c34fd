"""What a notebook shows of models, plans, caches and counts: short, escaped, and nothing that is secret."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kvspark
from kvspark.cache.cache import Cache
from kvspark.display import bars, graph, heading, table
from kvspark.infer.model import Model
from kvspark.plan.plan import Plan, StagePlan
from tests.small_models import Mlp, Towers, seeded

STATS = kvspark.RunStats(
    rows=1000,
    stages={
        "trunk": kvspark.StageStats(rows=100, lookups=100, hits=90, computed=10),
        "<b>head</b>": kvspark.StageStats(rows=1000, lookups=950, hits=850, duplicates=50),
    },
    degraded=frozenset({"timeout"}),
    bad_rows={"input": {"NullValue": 2}},
)


class Tags(HTMLParser):
    """Reads HTML: which tags are open at the end, and all tags and texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


OURS = set("div b table tr th td svg rect title text path".split())


def well_formed(html: str) -> Tags:
    tags = Tags(html)
    assert tags.open == []
    assert tags.tags <= OURS
    return tags


@pytest.fixture(scope="module")
def towers() -> Model:
    examples = {"user": torch.zeros(4, 8), "item": torch.zeros(4, 6)}
    return Model.from_torch(seeded(Towers()), examples, cuts=["user", "item"], name="a<b>&c")


@given(st.text(max_size=30), st.text(max_size=30))
def test_every_text_is_escaped(first: str, second: str) -> None:
    html = heading(first, second) + table((first, "n"), [(second, "1")])
    html += bars({first: [(second, 1.0, "#fff")]})
    html += graph({"in": "", f"x{first}": f"x{second}"}, [("in", f"x{first}")])
    texts = "".join(well_formed(html).texts)
    for text in (first, second):
        assert " ".join(text.split()) in " ".join(texts.split())


def test_counts_are_shown_by_stage_with_their_troubles() -> None:
    texts = well_formed(STATS._repr_html_()).texts
    assert "1,000 rows, hit rate 89.5%" in texts
    assert "<b>head</b>" in texts
    told = " ".join(texts)
    for part in ("2 bad rows", "degraded: timeout", "90 found, 10 computed", "850 found"):
        assert part in told
    line = "RunStats(1,000 rows, hit rate 89.5%, trunk: 10 computed, <b>head</b>: 0 computed, 2 bad rows, degraded: timeout)"
    assert repr(STATS) == line
    assert repr(STATS.stages["trunk"]) == "StageStats(rows=100, lookups=100, hits=90, computed=10)"
    well_formed(kvspark.RunStats()._repr_html_())


def test_a_bar_is_as_long_as_its_part_of_the_longest() -> None:
    html = bars(
        {"a": [("found", 75, "#0f0"), ("computed", 25, "#f00")], "b": [("found", 50, "#0f0")]},
        width=200,
    )
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', html)]
    assert widths == [150.0, 50.0, 100.0]


def test_a_model_shows_its_stages_as_a_picture_and_a_table(towers: Model) -> None:
    html = towers._repr_html_()
    texts = well_formed(html).texts
    assert "a<b>&c" in texts
    for name in ("user", "item", *(stage.name for stage in towers.stages)):
        assert name in texts
    assert html.count("<rect") == len(towers.inputs) + len(towers.stages) or "<svg" not in html
    assert towers.describe()._repr_html_() == html
    assert len(repr(towers)) < 120
    for stage in towers.stages:
        well_formed(stage._repr_html_())
        assert stage.fingerprint.hex()[:12] in repr(stage)
        assert len(repr(stage)) < 120


def test_boxes_do_not_overlap_and_arrows_go_to_the_right() -> None:
    nodes = {"user": "", "item": "", "u": "64 bytes", "i": "64 bytes", "join": "4 bytes"}
    edges = [("user", "u"), ("item", "i"), ("u", "join"), ("i", "join")]
    html = graph(nodes, edges)
    boxes = [
        tuple(map(int, box))
        for box in re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', html)
    ]
    assert len(boxes) == 5
    for place, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[place + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y
    starts = re.findall(r'd="M(\d+) \d+ C[^"]* (\d+) \d+" fill="none"', html)
    assert all(int(start) < int(end) for start, end in starts)
    sides = {x + w for x, _, w, _ in boxes}
    assert len(starts) == len(edges)
    assert all(int(start) in sides for start, _ in starts)


def test_a_plan_tells_what_is_cached_and_what_is_not_by_default(towers: Model) -> None:
    plan = Plan({"user": StagePlan(cached=True, codec="bf16", share=0.4)}, memo_bytes=0)
    assert repr(plan) == "Plan(user: cached, bf16, 40% of rows, memo_bytes=0)"
    assert repr(Plan()) == "Plan()"
    assert repr(Plan({"a": StagePlan(cached=False)})) == "Plan(a: computed)"
    assert "why" not in plan._repr_html_()
    texts = well_formed(plan.for_bundle(towers.bundle)._repr_html_()).texts
    assert {"user", "item", "cached"} <= set(texts)


def test_a_measured_plan_shows_why_in_a_notebook_and_is_equal_to_one_that_was_written() -> None:
    measured = Plan({"a": StagePlan(cached=True, why="fetching costs < 0.1 us")})
    assert measured == Plan({"a": StagePlan(cached=True)})
    assert ">fetching costs &lt; 0.1 us<" in measured._repr_html_()
    assert repr(measured) == "Plan(a: cached)"


def test_a_cache_shows_where_it_is_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, towers: Model
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hunter2")
    cache = Cache.connect(
        "redis://nowhere.invalid:6379/0",
        namespace="n<s>",
        username="me",
        password_env="STORE_PASSWORD",
    )
    assert repr(cache) == "Cache('redis://nowhere.invalid:6379/0', namespace='n<s>')"
    html = cache._repr_html_()
    texts = well_formed(html).texts
    assert "Cache redis://nowhere.invalid:6379/0" in texts
    assert "hunter2" not in html + repr(cache)
    assert cache.stats() == kvspark.RunStats()


def test_a_cache_counts_what_was_predicted_with_it() -> None:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name="mlp")
    cache = Cache.connect("memory://", namespace="counted")
    x = torch.arange(24, dtype=torch.float32).reshape(3, 8)
    model.predict({"x": x}, cache=cache)
    model.predict({"x": x}, cache=cache, on_bad_row="null")
    stats = cache.stats()
    assert stats.rows == 6
    assert stats.stages["output"].hits == 3
    assert stats.stages["output"].computed == 3
    assert cache.stats() == stats
    assert "hit rate" in cache._repr_html_()


def test_troubles_are_counted_whether_or_not_they_were_drained() -> None:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, name="mlp")
    cache = Cache.connect("unix:///nowhere/at/all", namespace="counted")
    model.predict({"x": torch.zeros(2, 8)}, cache=cache)
    before = cache.stats()
    assert before.degraded == {"unavailable"}
    cache.drain()
    assert cache.stats() == before


def test_what_a_notebook_needs_first_imports_nothing_heavy() -> None:
    code = (
        "import sys, kvspark; kvspark.RunStats()._repr_html_(); "
        "print([m for m in ('torch', 'pyspark', 'redis', 'IPython') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
