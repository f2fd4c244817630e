"""How soon Inspect shows what was asked for, from the key or the click to the redrawn figures, in Chromium.

    python -m benchmarks.inspect_latency [--steps 200] [--repeats 20] [--chromium /usr/bin/chromium]

Makes a run with the bundled model in a history of its own, starts the app on it as an operator does, and opens the run.
A time begins with the browser's event (a press on a token, an arrow key, the arrow key on the slider of p) and ends in
the first frame in which the page tells the new step or p everywhere: heading and sentence, the text, the title of every
figure that changes, the lines over the landscape. Each row is the median of the repeats, after a few uncounted ones.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Locator, Page, sync_playwright

from dashboard.config import REPOSITORY, read_config
from dashboard.figures.sentences import count, p_value
from dashboard.history import History, NewRun
from dashboard.sampling.engine import Drawn, generate
from dashboard.sampling.settings import SamplingSettings
from dashboard.sampling.store import ModelStore
from dashboard.sampling.trace import SIZE_CURVE_P

PROMPT: Final = "Once upon a time, in a village by the sea, there lived"
TOP_P: Final = 0.9
WARM_UP: Final = 4
START_WITHIN: Final = 60.0
PATIENCE_MS: Final = 60_000
FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

# From the next press to the first frame in which every place tells what is expected. Charts that the page does not have
# are not waited for. Looking must cost next to nothing, so nothing here asks for the layout.
ARM = r"""({texts, titles, token, asked}) => {
    const strip = [...document.querySelectorAll("*")].map(e => e.shadowRoot?.querySelector(".strip")).find(Boolean);
    const chosen = token === null ? null : strip.querySelectorAll(".token")[token];
    const label = token === null ? null : `step ${(token + 1).toLocaleString("en-GB")}`;
    const charts = titles.filter(([key]) => document.querySelector(`.st-key-${key} .js-plotly-plot`));
    const told = selector => [...document.querySelectorAll(selector)].map(element => element.textContent);
    const tells = ([key, parts]) => {
        const found = told(`.st-key-${key} .gtitle`);
        return found.length === 1 && parts.some(part => found[0].includes(part));
    };
    const isShown = () =>
        charts.every(tells) &&
        texts.every(text => told("h2, h3, [data-testid=stText]").some(found => found.includes(text))) &&
        (!chosen || chosen.getAttribute("aria-selected") === "true") &&
        (!label || told(".step-marker-line").every(found => found === label)) &&
        (!asked || told(".step-marker-key").every(found => found === asked));
    window.measured = new Promise((resolve, reject) => {
        if (isShown()) reject(new Error("shown before it was asked for"));
        const begin = event => {
            for (const name of ["pointerdown", "keydown"]) document.removeEventListener(name, begin, true);
            const look = () => (isShown() ? resolve(performance.now() - event.timeStamp) : requestAnimationFrame(look));
            look();
        };
        for (const name of ["pointerdown", "keydown"]) document.addEventListener(name, begin, true);
    });
}"""

Measure = Callable[[int], float]
"""Milliseconds of the move of that number, from 0."""


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="length of the run (default 200)")
    parser.add_argument("--repeats", type=int, default=20, help="how often each is timed (default 20)")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium", help="the browser's program")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        database = f"sqlite:///{Path(folder) / 'history.db'}"
        run_id = store_run(database, options.steps)
        with served(database, Path(folder) / "app.log") as address:
            browser = playwright.chromium.launch(executable_path=options.chromium, args=list(FLAGS))
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"{address}/inspect?run={run_id}&step=1")
            page.get_by_role("heading", name=f"Step 1 of {count(options.steps)}", exact=True).wait_for()
            print(f"{os.cpu_count()} cores, Chromium {browser.version}, {options.steps} steps, p = {p_value(TOP_P)}")
            print(f"median of {options.repeats}, milliseconds\n\n{'':30} median   least    most")
            for name, (part, measure) in moves(page, options.steps).items():
                page.get_by_role("radio", name=part).or_(page.get_by_role("button", name=part)).first.click()
                for number in range(WARM_UP):
                    measure(number)
                taken = [measure(WARM_UP + number) for number in range(options.repeats)]
                print(f"{name:30} {statistics.median(taken):6.0f}  {min(taken):6.0f}  {max(taken):6.0f}")
            browser.close()


def store_run(database: str, length: int) -> str:
    """Store a run of the bundled model that does not end before ``length`` steps; its public id."""
    model = ModelStore(read_config()).get("pocket")
    prompt_ids = model.encode(PROMPT)
    for seed in numbers(1):
        settings = SamplingSettings(top_p=TOP_P, seed=seed, max_new_tokens=length)
        steps = [event.step for event in generate(model, prompt_ids, [settings]) if isinstance(event, Drawn)]
        if len(steps) == length:
            break
    history = History(database)
    history.save_vocabulary(model.vocabulary)
    run_id = history.create_run(NewRun.by(model, PROMPT, tuple(prompt_ids), settings))
    history.start_run(run_id)
    text = model.vocabulary.decode([step.token_id for step in steps])
    history.append_steps(run_id, steps, text)
    history.finish_run(run_id, status="finished", stop_reason="length", output=text, seconds=1.0)
    history.close()
    return run_id


@contextmanager
def served(database: str, log_path: Path) -> Iterator[str]:
    """The app in a process of its own, on that history; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless", "true"]
    command += ["--server.address", "localhost", "--server.port", str(port)]
    given = {"DATABASE_URL": database, "HF_HUB_OFFLINE": "1"}
    with (
        log_path.open("w") as log,
        subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | given, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until_healthy(f"http://localhost:{port}", process, log_path)
            yield f"http://localhost:{port}"
        finally:
            process.terminate()


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    """Return once the app answers; raise RuntimeError with its log if it does not."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"The app did not start: {log_path.read_text()}")


def moves(page: Page, length: int) -> dict[str, tuple[str, Measure]]:
    """The moves that are timed, by name, each with the side of the step that is shown meanwhile."""
    rng = random.Random(0)
    tokens = page.locator(".strip .token")
    at = 0

    def expected_step(step: int) -> dict[str, Any]:
        told = f"Step {count(step)}"
        titles = [[key, [f"{told}:", f"{told} "]] for key in ("bars", "mass", "samplers", "stages")]
        return {"texts": [f"{told} of {count(length)}"], "titles": titles, "token": step - 1, "asked": None}

    def click(_: int) -> float:
        nonlocal at
        at = rng.choice([position for position in range(length) if position != at])
        ink = tokens.nth(at).locator(".ink")
        return timed(page, expected_step(at + 1), ink, ink.click)

    def arrow(number: int) -> float:
        nonlocal at
        if number == 0:
            at = 0
            tokens.first.locator(".ink").click()
        at += 1
        return timed(page, expected_step(at + 1), tokens.first, lambda: page.keyboard.press("ArrowRight"))

    options = sorted({*SIZE_CURVE_P, TOP_P, 1.0}, reverse=True)
    slider = page.get_by_role("slider").first

    def slide(number: int) -> float:
        told = f"p = {p_value(options[options.index(TOP_P) + 1 + number])}"
        # "p = 0.8" must not be found in "p = 0.89".
        ends = [told + end for end in (":", ",", ".", " ", "\u2002", "\u2003")]
        titles = [[key, ends] for key in ("bars", "mass")]
        slider.focus()
        expected = {"texts": [f"{told}, "], "titles": titles, "token": None, "asked": f"what if {told}"}
        return timed(page, expected, slider, lambda: page.keyboard.press("ArrowLeft"))

    return {
        "click on a token": ("Distribution", click),
        "arrow key": ("Distribution", arrow),
        "slider of p by one": ("Distribution", slide),
        "click, samplers shown": ("Samplers", click),
        "click, making shown": ("How it was made", click),
    }


def timed(page: Page, expected: dict[str, Any], at: Locator, act: Callable[[], None]) -> float:
    """Milliseconds from what ``act`` does in the browser until the page shows what is expected."""
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    at.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    page.evaluate(ARM, expected)
    act()
    return float(page.evaluate("window.measured"))


if __name__ == "__main__":
    main()
