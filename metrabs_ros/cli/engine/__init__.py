"""metrabs-engine: the engines there are, their weights, and what is built of them. One verb a file.

A verb is a function with typer's annotations, registered below under its name.
"""

from __future__ import annotations

from metrabs_ros import cli
from metrabs_ros.cli.engine.build import build
from metrabs_ros.cli.engine.clean import clean
from metrabs_ros.cli.engine.fetch import fetch
from metrabs_ros.cli.engine.import_released import import_released
from metrabs_ros.cli.engine.info import info
from metrabs_ros.cli.engine.list_engines import list_engines
from metrabs_ros.cli.engine.quantize import quantize
from metrabs_ros.cli.engine.verify import verify

app = cli.new_app("The engines that metrabs-pose and pose_node can run, and their weights.")
app.command("fetch")(fetch)
app.command("list")(list_engines)
app.command("info")(info)
app.command("import")(import_released)
app.command("build")(build)
app.command("quantize")(quantize)
app.command("verify")(verify)
app.command("clean")(clean)


def main() -> None:
    cli.run(app, "metrabs-engine")
