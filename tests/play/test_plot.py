"""The axes: what has no place is not drawn, least of all as zero."""

import math

from docs.play.inline import bundle


def test_what_is_no_number_has_no_place_on_either_scale(open_page):
    page = open_page()
    places = page.evaluate(
        f"""() => {{
          const m = {bundle("frame/plot.js")};
          const plot = m.createPlot({{ title: "a plot" }});
          document.body.append(plot.root);
          const on = (yLog) => plot.begin({{ x: [1, 9], y: [1, 100], yLog, colours: {{}} }});
          const values = [NaN, Infinity, 0, 1, 100];
          return [on(true), on(false)].map(({{ py, box }}) => (
            values.map((v) => (py(v) - box.top) / (box.bottom - box.top))));
        }}"""
    )
    for scale in places:
        assert math.isnan(scale[0])
        assert scale[1] == -math.inf
        assert scale[3:] == [1, 0]
    assert places[0][2] == math.inf
