import signal
import threading
import time

import pytest

from tagseg.interrupt import EXIT_INTERRUPTED, Interrupted, Interruption, check, requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with Interruption() as interruption:
        check()
        assert not requested()
        signal.raise_signal(number)
        assert interruption.requested
        assert requested()
        with pytest.raises(Interrupted):
            check()
    assert signal.getsignal(number) == before
    assert not requested()
    check()


def test_second_one_aborts_at_once_but_an_echo_does_not():
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # a launcher passing it on
        time.sleep(0.6)
        with pytest.raises(KeyboardInterrupt) as error:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(error.value, Interrupted)
        assert interruption.requested
        assert signal.getsignal(signal.SIGINT) == before
    assert signal.getsignal(signal.SIGINT) == before


def test_a_request_inside_reaches_the_loop_outside():
    with Interruption() as outer:
        with Interruption():
            signal.raise_signal(signal.SIGTERM)
        assert outer.requested
        with pytest.raises(Interrupted):
            check()


def test_works_outside_the_main_thread_without_catching_signals():
    seen = []

    def run():
        with Interruption() as interruption:
            seen.append(interruption.requested)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]


def test_exit_status_is_neither_success_nor_a_mistake():
    assert EXIT_INTERRUPTED not in (0, 1, 2)
