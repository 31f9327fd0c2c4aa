"""What a client does, as steps that somebody else carries out: the blocking and the asyncio client share every check and every retry.

A generator yields `Send` and `Sleep` and is given the answer, or the error that it led to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from keras_privpart.errors import ServingError

from .client_metrics import Metrics
from .transport import Method

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Send a message: `transport` is a `Transport`, or an `AsyncTransport` for `run_async`; `timeout` in seconds."""

    transport: Any
    method: Method
    request: Any
    timeout: float


@dataclass(frozen=True)
class Sleep:
    """Wait so many seconds; `retry` says that a request is sent again afterwards, and counts."""

    seconds: float
    retry: bool = True


Steps = Generator[Send | Sleep, Any, T]


def run(steps: Steps[T], metrics: Metrics) -> T:
    """Carries out the steps in this thread and returns what they return."""
    try:
        step = next(steps)
        while True:
            answer, error = _act(step, metrics)
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as end:
        return end.value


async def run_async(steps: Steps[T], metrics: Metrics) -> T:
    """Carries out the steps in the running event loop and returns what they return."""
    try:
        step = next(steps)
        while True:
            answer, error = await _act_async(step, metrics)
            step = steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as end:
        return end.value


_Outcome = tuple[Any, ServingError | None]


def _act(step: Send | Sleep, metrics: Metrics) -> _Outcome:
    if isinstance(step, Sleep):
        _count(step, metrics)
        time.sleep(step.seconds)
        return None, None
    try:
        with metrics.call(step.method.name, step.request) as call:
            call.answer = step.transport.send(step.method, step.request, step.timeout)
    except ServingError as error:
        return None, error
    return call.answer, None


async def _act_async(step: Send | Sleep, metrics: Metrics) -> _Outcome:
    if isinstance(step, Sleep):
        _count(step, metrics)
        await asyncio.sleep(step.seconds)
        return None, None
    try:
        with metrics.call(step.method.name, step.request) as call:
            call.answer = await step.transport.send(step.method, step.request, step.timeout)
    except ServingError as error:
        return None, error
    return call.answer, None


def _count(step: Sleep, metrics: Metrics) -> None:
    if step.retry:
        metrics.retry()
