"""How long a run takes to start is measured of one that starts."""

import sys

import pytest

from inspire_d2.errors import InputError
from tools.cost import startup


def test_the_first_iteration_is_when_metrics_appear():
    script = (
        "import sys, time; folder = sys.argv[-1].partition('=')[2];"
        "open(folder + '/metrics.json', 'w').write('{}'); time.sleep(600)"
    )
    seconds = startup.first_iteration_seconds("a.py", (sys.executable, "-c", script))
    assert 0 < seconds < 60
    with pytest.raises(InputError, match="ended with code 3 before its first iteration"):
        startup.first_iteration_seconds("a.py", (sys.executable, "-c", "raise SystemExit(3)"))


@pytest.mark.parametrize("script", ["pass", "print('usage:'); raise SystemExit(1)"])
def test_a_start_without_help_is_not_timed(script):
    with pytest.raises(InputError, match="and no help"):
        startup.help_seconds(1, (sys.executable, "-c", script))
    assert startup.help_seconds(1, (sys.executable, "-c", "print('usage: x')")) > 0
