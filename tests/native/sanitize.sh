#!/bin/sh
# Builds the native update with the sanitizers of addresses and of undefined behaviour, and runs the
# laws of the update on it. Without a compiler that has both it says so and succeeds.
set -eu
cd "$(dirname "$0")/../.."
cxx=${CXX:-g++}
library=$(mktemp -d)/_base.sanitized.so
trap 'rm -rf "$(dirname "$library")"' EXIT
flags="-std=c++20 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fPIC -shared -pthread"
if ! echo 'int main() {}' | "$cxx" -fsanitize=address,undefined -x c++ - -o "$library" 2>/dev/null; then
    echo "sanitizers: no compiler with both of them, skipped"
    exit 0
fi
"$cxx" $flags -Wall -Wextra -Wno-psabi -Wno-ignored-attributes -Werror -DLANES=16 \
    vaerl/native/*.cpp -o "$library"
LD_PRELOAD=$("$cxx" -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 VAERL_NATIVE=$library \
    "${PYTHON:-.venv/bin/python}" -m pytest -q -p no:cacheprovider \
    tests/native/test_update.py tests/native/test_latent.py tests/native/test_ppo.py \
    tests/native/test_sample.py \
    -k "draws or bfloat16 or (the_one_in_torch and (2 or bound or codes or trunk or clipped))"
