#!/bin/sh
# The steps of the images, in the folder with pyproject.toml. They run outside of Docker as well.
#
#   install.sh dependencies ENVIRONMENT [EXTRA]   what Nautilus stands on, into a virtual environment
#   install.sh package FOLDER                     Nautilus itself, beside it: a change of the code leaves the rest cached
set -eu

python=${PYTHON:-python3}

dependencies() {
    environment=$1
    extra=${2:-}
    [ -x "$environment/bin/python" ] || "$python" -m venv --without-pip "$environment"
    "$python" - "$extra" >requirements.txt <<'END'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extra = project["optional-dependencies"][sys.argv[1]] if sys.argv[1] else []
print(*project["dependencies"], *extra, sep="\n")
END
    "$python" -m pip --python "$environment/bin/python" install -r requirements.txt -c constraints.txt
}

package() {
    "$python" -m hatchling build -t wheel -d wheel
    "$python" -m pip install --no-deps --no-index --target "$1" wheel/*.whl
}

"$@"
