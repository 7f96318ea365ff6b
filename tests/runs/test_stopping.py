"""What signals do to the process, apart from training."""

import signal
import subprocess
import sys
import time

import pytest

from mmfound.runs.signals import StopSignals

MAIN = """
import time
from mmfound.runs.signals import StopSignals
with StopSignals().installed() as signals:
    print("ready", flush=True)
    while not signals.received: time.sleep(0.01)
    print(signals.received, flush=True)
    time.sleep(30)
"""


@pytest.mark.parametrize(("number", "twice"), [(signal.SIGINT, 130), (signal.SIGTERM, None)])
def test_a_second_ctrl_c_leaves_at_once(number: int, twice: int | None):
    with subprocess.Popen([sys.executable, "-c", MAIN], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        main.stdout.readline()
        main.send_signal(number)
        assert main.stdout.readline().strip() == str(int(number))
        main.send_signal(number)
        if twice is not None:
            assert main.wait(10) == twice
        else:
            time.sleep(0.5)
            assert main.poll() is None
        main.kill()


def test_ctrl_c_twice_leaves_after_another_signal_too():
    with subprocess.Popen([sys.executable, "-c", MAIN], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        main.stdout.readline()
        main.send_signal(signal.SIGTERM)
        assert main.stdout.readline().strip() == str(int(signal.SIGTERM))
        main.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert main.poll() is None
        main.send_signal(signal.SIGINT)
        assert main.wait(10) == 130


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals().installed():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
