"""CLINC150 and Banking77 come from a server as from GitHub, and their addresses are those of the official files."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from metalit.data import CLINC150, Banking77
from metalit.data.texts import banking77, clinc150
from metalit.errors import SettingError, UserError
from miniature_texts import write_banking77, write_clinc150

GITHUB = "https://raw.githubusercontent.com"
SETS = {"clinc150": (CLINC150, clinc150, write_clinc150), "banking77": (Banking77, banking77, write_banking77)}
SMALL = {"ways": 2, "shots": 1, "queries": 2, "splits": "seed"}
# repository, commit and folder of the official files, and their SHA-256
REAL = {
    "clinc150": (
        "clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data",
        {
            "data_full.json": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
            "domains.json": "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
        },
    ),
    "banking77": (
        "PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data",
        {
            "train.csv": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
            "test.csv": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
        },
    ),
}


class Server(ThreadingHTTPServer):
    """Serves files by their paths; ``sends`` says how many bytes of each it sends before it hangs up."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.sends, self.asked = files, {}, []

    def handle_error(self, request, client_address):
        """Print nothing about clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: self.server.sends.get(self.path, len(content))])

    def log_message(self, *_):
        pass


@pytest.fixture(params=list(SETS))
def published(request, tmp_path, monkeypatch):
    """The class of a data set, the server of its files in miniature, and those files."""
    kind, module, write = SETS[request.param]
    folder = write(tmp_path / "official")
    contents = {name: (folder / name).read_bytes() for name in module.FILES}
    server = Server({module.FILES[name].url.removeprefix(GITHUB): content for name, content in contents.items()})
    base = f"http://127.0.0.1:{server.server_port}"
    local = {
        name: remote._replace(url=remote.url.replace(GITHUB, base), md5=hashlib.md5(contents[name]).hexdigest())
        for name, remote in module.FILES.items()
    }
    monkeypatch.setattr(module, "FILES", local)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield kind, server, contents
    server.shutdown()
    thread.join()
    server.server_close()


def there(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_missing_files_are_fetched_once(published, tmp_path):
    kind, server, contents = published
    root, name = tmp_path / "new" / "root", kind.data_set
    entries = kind(root=str(root), **SMALL).listing().entries
    assert len(entries) == 48
    assert there(root) == {f"{name}/{file}": content for file, content in contents.items()}
    assert server.asked == list(server.files)
    assert kind(root=str(root), **SMALL).listing().entries == entries
    assert kind(root=str(root / name), **SMALL).listing().entries == entries  # the folder itself is a root too
    assert server.asked == list(server.files)


@pytest.mark.parametrize("inside", [False, True])
def test_only_what_is_missing_is_fetched_to_where_the_others_are(inside, published, tmp_path):
    kind, server, contents = published
    (own, content), (missing, _) = contents.items()
    root = tmp_path / "root"
    place = root / kind.data_set if inside else root
    place.mkdir(parents=True)
    (place / own).write_bytes(content)
    assert len(kind(root=str(root), **SMALL).listing().entries) == 48
    assert there(place) == contents
    assert server.asked == [list(server.files)[1]]
    assert server.asked[0].endswith(f"/{missing}")


def test_other_bytes_are_refused_and_not_kept(published, tmp_path):
    kind, server, contents = published
    first, file = next(iter(server.files)), next(iter(contents))
    right = server.files[first]
    server.files[first] = right[:-1] + b"?"
    with pytest.raises(
        UserError, match=rf"{file} came with md5 .*, expected {hashlib.md5(right).hexdigest()}"
    ) as error:
        kind(root=str(tmp_path / "root"), **SMALL).listing()
    assert "\n" not in str(error.value)
    assert there(tmp_path / "root") == {}
    server.files[first] = right
    assert len(kind(root=str(tmp_path / "root"), **SMALL).listing().entries) == 48


@pytest.mark.parametrize("sent", [0, 100])
def test_an_interrupted_transfer_leaves_nothing_and_may_be_repeated(sent, published, tmp_path):
    kind, server, contents = published
    second, root = list(server.files)[1], tmp_path / "root"
    server.sends[second] = sent
    with pytest.raises(UserError, match=f"{list(contents)[1]}.*(try again|fetch it)"):
        kind(root=str(root), **SMALL).listing()
    kept, content = next(iter(contents.items()))
    assert there(root) == {f"{kind.data_set}/{kept}": content}
    server.sends.clear()
    assert len(kind(root=str(root), **SMALL).listing().entries) == 48
    assert server.asked == [*server.files, second]  # the file that is whole is not fetched again


def test_a_file_that_the_server_lacks_is_named(published, tmp_path):
    kind, server, contents = published
    server.files.clear()
    file = next(iter(contents))
    with pytest.raises(SettingError, match=rf"{kind.data_set}/{file}, which could not be fetched .*404") as error:
        kind(root=str(tmp_path / "root"), **SMALL).listing()
    assert (error.value.name, error.value.value) == ("root", tmp_path / "root")
    assert there(tmp_path / "root") == {}


@pytest.mark.parametrize("name", list(SETS))
def test_the_addresses_are_those_of_the_official_files(name):
    place, sums = REAL[name]
    assert {file: remote.url for file, remote in SETS[name][1].FILES.items()} == {
        file: f"{GITHUB}/{place}/{file}" for file in sums
    }


@pytest.mark.parametrize("name", list(SETS))
def test_the_checksums_are_those_of_the_official_files(name, shared_data):
    for file, remote in SETS[name][1].FILES.items():
        content = (shared_data / name / file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == REAL[name][1][file]
        assert hashlib.md5(content).hexdigest() == remote.md5
