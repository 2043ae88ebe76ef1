"""Our clients pass the kit, and clients with a known bug fail it."""

import asyncio
import functools
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import yaml
from application import Wrong, items_of, take_off
from case import CASE_MAX, Run
from kit import HERE, STARTING_MAX, cases, check, check_all, section
from websockets.asyncio.client import connect

CLIENT = HERE.parent
ADAPTERS = {
    "JavaScript": ["node", str(HERE / "adapter.mjs")],
    "Python": [sys.executable, "-B", str(HERE / "adapter.py")],
}


def planted():
    return yaml.safe_load((HERE / "planted.yaml").read_text())


def build(number, change, folder):
    """Builds the browser client with a change, and returns the command of its adapter."""
    source = folder / str(number)
    shutil.copytree(CLIENT / "src", source)
    for name, texts in change.items():
        text = (source / name).read_text()
        for old, new in texts.items():
            assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in client/src/{name}: expected once"
            text = text.replace(old, new)
        (source / name).write_text(text)
    variables = []
    for variable, module in {"CLIENT": "viral-alerts", "EVENTS": "viral-alerts-events"}.items():
        built = folder / f"{number}-{module}.mjs"
        options = ["--bundle", "--format=esm", "--log-level=error", f"--outfile={built}"]
        subprocess.run([CLIENT / "node_modules/.bin/esbuild", source / f"{module}.ts", *options], check=True)
        variables.append(f"{variable}={built}")
    return ["env", *variables, *ADAPTERS["JavaScript"]]


async def run_all(folder):
    """Runs everything side by side: it mostly waits."""
    known = {case.name: case for case in cases()}
    commands = [build(number, bug["change"], folder) for number, bug in enumerate(planted())]
    starting, clients, bugs = asyncio.Semaphore(STARTING_MAX), {}, {}
    # First those that take longest, as they wait for what a wrong client does not do.
    for command, bug in zip(commands, planted()):
        for name in bug["fails"]:
            events = bug.get("events", False)
            bugs[bug["bug"], name] = asyncio.create_task(check(known[name], command, starting, events))
    for name, command in ADAPTERS.items():
        clients[name] = asyncio.create_task(check_all(known.values(), command, starting))
    of_both = [case for case in known.values() if not case.gateway]
    both = check_all(of_both, ADAPTERS["JavaScript"], starting, events=True)
    clients["JavaScript over the Event API"] = asyncio.create_task(both)
    return tuple([{key: await task for key, task in tasks.items()} for tasks in (clients, bugs)])


@functools.cache
def results():
    """What is wrong with each client, by case, and with each planted one."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run_all(pathlib.Path(folder)))


class Clients(unittest.TestCase):
    maxDiff = None

    def test_our_clients_pass(self):
        clients, _ = results()
        for name, wrong in clients.items():
            with self.subTest(name):
                self.assertEqual(wrong, {})

    def test_clients_with_a_bug_fail(self):
        _, bugs = results()
        self.assertGreater(len(bugs), 15)
        for (bug, case), wrong in bugs.items():
            with self.subTest(bug, case=case):
                self.assertIsNotNone(wrong)


class Adapters(unittest.TestCase):
    def test_what_an_adapter_does_wrong_is_said(self):
        began = time.monotonic()
        for wrong, program in {
            "the adapter wrote a line of more than 256 KB": "print('x' * 300_000, flush=True); input()",
            "the adapter wrote b'x": "print('x', flush=True); input()",
            "the adapter ended before its standard input": "",
            "RecursionError": "print('[' * 100_000, flush=True); input()",
            "told more than 1000 errors": """print('{"error": {"code": "x"}}\\n' * 1_001, flush=True); input()""",
            # What it has started keeps its outputs open.
            "the adapter wrote b'y": "import os; os.popen('sleep 60'); print('y', flush=True); input()",
        }.items():
            with self.subTest(wrong):
                command = [sys.executable, "-c", program]
                found = asyncio.run(check(cases()[0], command, asyncio.Semaphore(1)))
                self.assertIn(wrong, found)
        self.assertLess(time.monotonic() - began, CASE_MAX)

    def test_a_program_that_is_missing_is_named(self):
        ran = subprocess.run(
            [sys.executable, "-B", HERE / "kit.py", "--", "./missing"], capture_output=True, text=True
        )
        self.assertIn("no program ./missing", ran.stderr)
        self.assertNotIn("Traceback", ran.stderr)

    def test_a_program_that_cannot_be_started_is_said(self):
        for first, cause in {"print(1)": "Exec format error", "#!/missing": "No such file or directory"}.items():
            with self.subTest(first), tempfile.TemporaryDirectory() as folder:
                adapter = pathlib.Path(folder) / "adapter"
                adapter.write_text(f"{first}\n")
                adapter.chmod(0o755)
                ran = subprocess.run(
                    [sys.executable, "-B", HERE / "kit.py", "--", adapter], capture_output=True, text=True
                )
                self.assertIn(f"cannot start the adapter {adapter}: {cause}. A script needs", ran.stderr)
                self.assertNotIn("Traceback", ran.stderr)


class Stopping(unittest.IsolatedAsyncioTestCase):
    async def test_only_an_attempt_that_was_under_way_may_follow_the_end(self):
        program = """if True:
            import json, sys
            from websockets.sync.client import connect
            settings = json.loads(sys.argv[1])
            sys.stdin.read()
            for _ in range(settings["attempts"]):
                connect(settings["url"]).close()
            print('{"stopped": []}', flush=True)
        """
        for attempts, allowed in {0: True, 1: True, 2: False}.items():
            run = Run(cases()[0], [sys.executable, "-c", program])
            with self.subTest(attempts):
                async with run.gateway as gateway:
                    await run.application.start({"url": f"ws://{gateway.address}/prod", "attempts": attempts})
                    if allowed:
                        await run.application.stop()
                    else:
                        with self.assertRaisesRegex(Wrong, "connected after the end"):
                            await run.application.stop()


class Cases(unittest.TestCase):
    def test_every_promise_stands_where_the_case_says(self):
        for case in cases():
            with self.subTest(case.name):
                self.assertIn(" ".join(case.promise.split()), section(case.where))

    def test_every_case_has_a_name_of_its_own(self):
        names = [case.name for case in cases()]
        self.assertEqual(len(set(names)), len(names))

    def test_the_readme_says_how_many_apply_to_the_event_api(self):
        every = cases()
        of_both = [case for case in every if not case.gateway]
        self.assertIn(f"{len(of_both)} of the {len(every)} cases apply to it", (HERE / "README.md").read_text())

    def test_what_is_told_is_compared_in_order(self):
        told = [("alert", 1), ("alert", 2), ("lost", 3), ("lost", 4)]
        for more, left in [([], 2), ([("removed", 5)], 1), ([("removed", 5), ("alert", 6)], 0), ([("alert", 6)], 0)]:
            expected = items_of("1-2, gap 3-4, removed 5?, 6")
            take_off("PL", expected, [*told, *more])
            self.assertEqual(len(expected), left)
        for wrong in [("alert", 2)], [("alert", 3)], [("lost", 4)], [("lost from", 3)], [*told[2:], ("removed", 6)]:
            with self.assertRaises(Wrong):
                take_off("PL", items_of("1-2, gap 3-4, removed 5?, 6"), [*told[:2], *wrong])


class Reports(unittest.IsolatedAsyncioTestCase):
    async def test_a_report_says_that_the_client_did_not_come_back(self):
        run = Run(cases()[0], [])
        async with run.gateway as gateway:
            for end, how in [
                (gateway.cut, "cut the connection"),
                (lambda: gateway.close(1001), "closed the connection with 1001"),
                (gateway.freeze, "left the connection half open"),
            ]:
                async with connect(f"ws://{gateway.address}/prod"):
                    await run.wait({"connections": len(gateway.attempts)})
                    self.assertNotIn("no handshake since", run.state())
                    if closing := end():
                        await closing
                    self.assertIn(f"\nthe gateway {how}: no handshake since", run.state())
                    gateway.thaw()


if __name__ == "__main__":
    unittest.main()
