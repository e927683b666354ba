"""What the site needs beyond mkdocs.yml: the package as installed, plain roles, the keys of a run.

The API pages are read from the sources without importing them. Some rooms lie at the top of the
tree (envs, agents, configs) and are installed inside of ``dnicomm``; a folder of links shows
them where they are imported from.
"""

import re
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parent.parent
ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):(?=<code>|<a )")
KEYS = "<!-- configs/config.yaml, up to what is Hydra's -->"
_linked = tempfile.TemporaryDirectory(prefix="dnicomm-sources-")  # gone when the build ends


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config):
    package = Path(_linked.name) / "dnicomm"
    package.mkdir(exist_ok=True)
    for source in [*(ROOT / "dnicomm").iterdir(), ROOT / "envs", ROOT / "agents"]:
        link = package / source.name
        if not link.exists():
            link.symlink_to(source)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_linked.name]
    return config


def on_page_markdown(markdown, **_):
    return markdown.replace(KEYS, _keys())


def on_page_content(html, **_):
    return ROLE.sub("", html)


def _keys():
    text = (ROOT / "configs" / "config.yaml").read_text(encoding="utf-8")
    return text.partition("\nhydra:")[0]
