from __future__ import annotations

from xml.etree import ElementTree

from kvspark.demo.nights.picture import WIDTH, picture
from tests.demo.outcomes import NIGHTS, outcome

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_xml_with_a_bar_for_every_number():
    root = ElementTree.fromstring(picture(NIGHTS))
    bars = root.findall(f"{SVG}rect")[1:]
    assert len(bars) == 3 * 2 + 3
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[6] > 50 * widths[7] > 50 * widths[8] > 0


def test_nothing_is_drawn_outside_of_the_picture():
    root = ElementTree.fromstring(picture(NIGHTS))
    for bar in root.findall(f"{SVG}rect")[1:]:
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < WIDTH - 50
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) < float(root.attrib["height"])


def test_the_numbers_are_written_beside_the_bars():
    text = picture(NIGHTS)
    assert "night 1: a &amp; b" in text
    assert ">50.0 s<" in text
    assert ">1,000<" in text


def test_a_long_name_is_cut_where_it_would_leave_the_picture():
    text = picture([outcome("night 1: " + "x" * 80, computed=(1, 1, 1))])
    assert f">night 1: {'x' * 24}…<" in text


def test_a_night_that_computed_nothing_can_be_drawn():
    assert ">0<" in picture([outcome("n", computed=(0, 0, 0), hits=1000)])
