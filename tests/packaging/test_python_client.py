"""The wheel of the client in Python: installed without network, with the version of the others."""

import textwrap
import tomllib
import unittest
import zipfile

from packages import ROOT, VERSION, add_tools, build, environment, install, made, run, work


class PythonClient(unittest.TestCase):
    def test_it_is_installed_and_imported_with_its_types_and_licences(self):
        (wheel,) = made().glob("viral_alerts-*.whl")
        directory = work() / "python-client"
        # Its dependency is among the tools.
        install(wheel, directory, "--no-deps")
        add_tools(directory)
        script = """
            from importlib.metadata import metadata, requires, version
            from viral_alerts import ViralAlerts

            print(version("viral-alerts"), metadata("viral-alerts")["License-Expression"], requires("viral-alerts"))
            print(ViralAlerts("ws://127.0.0.1:1/prod", ["pl"]).positions)
        """
        printed = run(directory / "bin/python", "-c", textwrap.dedent(script), cwd=work(), env=environment())
        self.assertEqual(printed, f"{VERSION} MIT OR Apache-2.0 ['websockets>=14']\n{{}}\n")
        with zipfile.ZipFile(wheel) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            (about,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
        # PyPI has no other files of the repository.
        self.assertRegex(about, rf"\]\(https://\S+/blob/v{VERSION}/docs/protocol\.md#taking-back\)")
        self.assertNotRegex(about, r"\]\((?!https://)")
        self.assertLessEqual({"py.typed", "LICENSE-APACHE", "LICENSE-MIT"}, names)

    def test_the_folder_has_the_version_of_the_release(self):
        about = tomllib.loads((ROOT / "client/python/pyproject.toml").read_text())["project"]
        self.assertEqual(about["version"], VERSION)

    def test_the_same_files_make_the_same_wheel(self):
        wheels = []
        for name in ("client-once", "client-again"):
            build("python-client", "--out", work() / name)
            wheels.append(next((work() / name).glob("*.whl")).read_bytes())
        self.assertEqual(*wheels)


if __name__ == "__main__":
    unittest.main()
