"""git: the first step's path is a repository; it is cloned, and said what came of it."""

import subprocess
import tempfile

import steps

git = ["git", "-c", f"http.proxy={steps.proxy or ''}"]
environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


def run(*words):
    return subprocess.run([*git, *words], check=True, stdout=subprocess.PIPE, env=environment).stdout


for method, path, _ in steps.steps():
    with tempfile.TemporaryDirectory() as folder:
        run("clone", "-q", steps.base + path, f"{folder}/clone")
        run("-C", f"{folder}/clone", "fsck", "--strict", "--no-progress")
        # The one that is checked out is whole, too.
        run("-C", f"{folder}/clone", "diff", "--exit-code", "HEAD")
        steps.say(method, path, 0, [], run("-C", f"{folder}/clone", "ls-tree", "-r", "HEAD"))
