"""Task types by name: built in, declared, of a project, installed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbuilder.errors import PluginError
from flowbuilder.plugins import decorator, installed
from flowbuilder.plugins.registry import Registry
from flowbuilder.plugins.task_type import TaskCall, TaskType
from flowbuilder.plugins.trust import trust
from flowbuilder.tasks import BUILTIN_TASK_TYPES, default_registry
from flowbuilder.vocabulary import Effects

PLUGIN = '''
import flowbuilder.plugins.decorator as fb
from flowbuilder.plugins.task_type import TaskType
from pathlib import Path

Path(__file__).with_suffix(".ran").touch()

@fb.task_type("slack", effects="external")
def slack(call, *, channel: str, text: str = "") -> str:
    """Post a message."""
    return f"{call.name} -> {channel}: {text}"

class Upper(TaskType):
    name = "upper"
    summary = "Upper case."

    def run(self, call):
        return str(call.config["text"]).upper()
'''


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("FLOWBUILDER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(decorator, "_declared", {})
    monkeypatch.setattr(installed, "_cached", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("plugin_", decorator.PROJECT_MODULE_PREFIX)):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "plugins").mkdir(parents=True)
    (folder / "plugins" / "chat.py").write_text(PLUGIN)
    return folder


def install(site: Path, package: str, entry_points: dict[str, str], version: str = "1.0") -> None:
    info = site / f"{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = "".join(f"{name} = {target}\n" for name, target in entry_points.items())
    (info / "entry_points.txt").write_text(f"[flowbuilder.task_types]\n{lines}")
    if str(site) not in sys.path:
        sys.path.insert(0, str(site))


def call(name: str, **config: object) -> TaskCall:
    return TaskCall(name=name, key=name, run_id="r", attempt=1, config=config)


def test_every_builtin_type_can_be_found_and_described():
    registry = default_registry()

    for name in BUILTIN_TASK_TYPES:
        found = registry.find(name)
        assert found is not None
        assert found.name == name
        described = registry.describe(name)
        assert (described.origin, described.state) == ("built-in", "ready")
        assert described.summary
        assert described.schema["additionalProperties"] is False
    assert registry.find("no-such-type") is None
    assert set(BUILTIN_TASK_TYPES) <= set(registry.names())


@pytest.mark.parametrize("name", ["http", "python", "script", "shell", "sleep", "workflow"])
def test_every_property_can_be_shown_in_a_form(name):
    properties = default_registry().describe(name).schema["properties"]

    assert isinstance(properties, dict)
    for field, schema in properties.items():
        assert schema.get("title"), f"{name}.{field} needs a title"
        assert schema.get("description"), f"{name}.{field} needs a description"


def test_builtin_types_are_imported_when_they_are_used():
    code = (
        "import sys\n"
        "from flowbuilder.tasks import default_registry\n"
        "registry = default_registry()\n"
        "registry.find('shell')\n"
        "loaded = {name for name in sys.modules if name.startswith('flowbuilder.tasks.')}\n"
        "assert 'flowbuilder.tasks.http' not in loaded, loaded\n"
        "heavy = {'httpx', 'asyncio', 'duckdb', 'pyarrow', 'importlib.metadata'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_same_type_is_given_to_all_threads():
    registry = default_registry()
    barrier = threading.Barrier(8)
    found: list[object] = []

    def find() -> None:
        barrier.wait()
        found.append(registry.find("http"))

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(item) for item in found}) == 1


def test_broken_builtin_names_module_and_cause():
    registry = Registry({"gone": "flowbuilder.tasks.no_such_module:Gone"})

    with pytest.raises(PluginError, match=r"'gone'.*no_such_module"):
        registry.find("gone")
    assert registry.describe("gone").state == "broken"


def test_project_plugin_is_not_run_before_it_is_trusted(project):
    registry = default_registry(project)

    assert {"slack", "upper"} <= set(registry.names())
    assert registry.find("slack") is None
    assert registry.unloaded("slack") == {}
    assert registry.unloaded("no-such") is None
    assert registry.unloaded("shell") is None
    described = registry.describe("slack")
    assert (described.state, described.origin) == (
        "untrusted",
        str(project / "plugins" / "chat.py"),
    )
    assert "flowbuilder trust" in described.error
    assert not (project / "plugins" / "chat.ran").exists()


@pytest.mark.parametrize("stem", ["slack", "chat"])
def test_schema_beside_an_untrusted_plugin_is_used(project, stem):
    (project / "plugins" / f"{stem}.schema.json").write_text('{"required": ["channel"]}')

    assert default_registry(project).unloaded("slack") == {"required": ["channel"]}


@pytest.mark.parametrize("text", ["{", "[]", "\ud800"])
def test_schema_that_cannot_be_read_counts_as_unknown(project, text):
    file = project / "plugins" / "slack.schema.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    assert default_registry(project).unloaded("slack") == {}


def test_trusted_project_plugin_is_loaded_and_runs(project):
    registry = default_registry(project)
    assert registry.find("slack") is None
    trust(project)

    slack, upper = registry.find("slack"), registry.find("upper")

    assert slack is not None
    assert upper is not None
    assert slack.run(call("t", channel="#a")) == "t -> #a: "
    assert upper.run(call("t", text="ab")) == "AB"
    assert registry.unloaded("slack") is None
    assert registry.describe("slack").effects == "external"
    assert registry.describe("slack").summary == "Post a message."
    assert default_registry().find("slack") is None, "it belongs to its project"


@pytest.mark.parametrize(
    "body", ["raise ValueError('bad day')", "import sys; sys.exit(2)", "import absent_thing"]
)
def test_plugin_file_that_raises_is_named_and_others_work(project, body):
    broken = project / "plugins" / "broken.py"
    broken.write_text(f"{PLUGIN.replace('slack', 'other').replace('upper', 'lower')}\n{body}\n")
    trust(project)
    registry = default_registry(project)

    with pytest.raises(PluginError, match=r"broken\.py") as caught:
        registry.find("other")
    assert caught.value.__cause__ is not None
    assert registry.describe("other").state == "broken"
    assert registry.find("slack") is not None


def test_plugin_file_that_is_no_python_is_reported(project):
    (project / "plugins" / "bad.py").write_text("def (:")
    registry = default_registry(project)

    (problem,) = registry.problems()
    assert "bad.py" in problem
    assert "line 1" in problem
    assert registry.unloaded("slack") == {}


def test_files_that_begin_with_an_underscore_declare_nothing(project):
    (project / "plugins" / "_shared.py").write_text(PLUGIN.replace("slack", "hidden"))

    assert "hidden" not in default_registry(project).names()


def test_project_plugin_never_replaces_a_builtin_type(project):
    (project / "plugins" / "evil.py").write_text(PLUGIN.replace("slack", "shell"))
    trust(project)
    registry = default_registry(project)

    found = registry.find("shell")
    assert found is not None
    assert type(found).__name__ == "ShellTask"


def test_name_declared_by_two_files_is_an_error_naming_both(project):
    (project / "plugins" / "again.py").write_text(PLUGIN)
    trust(project)

    with pytest.raises(PluginError, match=r"provided twice.*again\.py.*chat\.py"):
        default_registry(project).find("slack")


def test_installed_type_is_found_by_its_entry_point(tmp_path):
    site = tmp_path / "site"
    install(site, "plugin-good", {"good": "plugin_good:Good", "fn": "plugin_good:fn"})
    (site / "plugin_good.py").write_text(
        "from flowbuilder.plugins.task_type import TaskType\n"
        "from flowbuilder.plugins.decorator import task_type\n"
        "class Good(TaskType):\n    name = 'good'\n    def run(self, call): return 'ran'\n"
        "@task_type('fn')\ndef fn(x: int): return x\n"
    )
    registry = default_registry()

    good = registry.find("good")
    assert good is not None
    assert good.run(call("t")) == "ran"
    assert registry.describe("good").origin == "plugin-good 1.0 (plugin_good:Good)"
    fn = registry.find("fn")
    assert fn is not None
    assert fn.run(call("t", x=3)) == 3


def test_broken_installed_type_names_plugin_entry_point_file_and_cause(tmp_path):
    site = tmp_path / "site"
    install(site, "plugin-bad", {"bad": "plugin_bad:Bad", "odd": "plugin_bad2:odd"})
    (site / "plugin_bad.py").write_text("raise RuntimeError('boom')")
    (site / "plugin_bad2.py").write_text("odd = 3")
    registry = default_registry()

    with pytest.raises(PluginError) as caught:
        registry.find("bad")
    text = str(caught.value)
    for fact in ("'bad'", "plugin-bad 1.0", "plugin_bad:Bad", str(site), "RuntimeError: boom"):
        assert fact in text
    with pytest.raises(PluginError, match="found int"):
        registry.find("odd")
    assert registry.find("shell") is not None


def test_two_distributions_of_one_name_are_an_error_naming_both(tmp_path):
    site = tmp_path / "site"
    install(site, "plugin-one", {"same": "plugin_one:T"})
    install(site, "plugin-two", {"same": "plugin_two:T"})

    with pytest.raises(PluginError, match="provided twice") as caught:
        default_registry().find("same")
    assert "plugin-one 1.0" in str(caught.value)
    assert "plugin-two 1.0" in str(caught.value)


def test_newly_installed_type_is_seen_without_a_restart(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    sys.path.insert(0, str(site))
    registry = default_registry()
    assert registry.find("fresh") is None

    install(site, "plugin-fresh", {"fresh": "plugin_fresh:T"})

    assert "fresh" in registry.names()


def test_added_type_belongs_to_one_registry():
    class Mine(TaskType):
        name = "mine"

        def effects(self, config):
            return Effects.NONE

    registry = default_registry()
    registry.add(Mine())

    assert registry.describe("mine").origin == "this process"
    assert default_registry().find("mine") is None
    Mine.name = "shell"
    with pytest.raises(PluginError, match="built in"):
        registry.add(Mine())


def test_unknown_name_cannot_be_described():
    with pytest.raises(PluginError, match="does not exist"):
        default_registry().describe("no-such")
