import os
import signal
import sys
import threading
import time

import pytest

from tagseg.interrupt import ANSWER, EXIT_INTERRUPTED, Interrupted, Interruption, check, requested


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_between_two_entries_is_not_forgotten(number):
    with Interruption() as outer:
        signal.raise_signal(number)  # before the training loop, say, while the model is built
        with Interruption() as inner:
            assert inner.requested
            with pytest.raises(Interrupted):
                check()
        assert outer.requested
        with Interruption(), Interruption(), pytest.raises(Interrupted):
            check()


def test_a_second_signal_counts_from_the_first_wherever_that_came():
    with Interruption():
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.6)
        with Interruption(), pytest.raises(KeyboardInterrupt) as error:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(error.value, Interrupted)


def test_the_first_signal_is_answered_at_once_and_once(capfd):
    with Interruption(), Interruption():
        signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err.strip() == ANSWER
        signal.raise_signal(signal.SIGTERM)
        assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_processes_forked_meanwhile_leave_the_answer_to_their_parent(capfd):
    with Interruption():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)
            os._exit(0 if requested() else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert not requested()
    assert capfd.readouterr().err == ""


def test_a_thread_beside_leaves_the_main_threads_request_alone():
    def enter():
        with Interruption():
            pass

    with Interruption():
        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        signal.raise_signal(signal.SIGINT)
        for thread in threads:
            thread.join()
        with pytest.raises(Interrupted):
            check()
    assert not requested()


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
