#!/bin/sh
# Makes the peers that benchmarks compare with, outside this project's environment.
#   benchmarks/make_peers.sh FOLDER     then pass FOLDER/llama-server and FOLDER/vllm-mlx
# Needs Python, pip with a package index, a C++ compiler and CMake; llama.cpp takes a while to build.
set -eu

folder=${1:?usage: benchmarks/make_peers.sh FOLDER}
python=${PYTHON:-python3}
jobs=${JOBS:-2}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# llama.cpp's server, from the source archive of its Python binding.
"$python" -m venv "$folder/tools"
"$folder/tools/bin/pip" install --quiet 'scikit-build-core[pyproject]'
"$folder/tools/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation \
    --dest "$folder" llama-cpp-python==0.3.36
mkdir -p "$folder/llama"
tar -xzf "$folder/llama_cpp_python-0.3.36.tar.gz" -C "$folder/llama" --strip-components=1
# Not GGML_NATIVE: it picks AMX on processors whose virtual machine does not let it be used.
cmake -S "$folder/llama/vendor/llama.cpp" -B "$folder/llama-build" \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF \
    ${LLAMA_FLAGS:--DGGML_AVX2=ON -DGGML_AVX512=ON -DGGML_FMA=ON -DGGML_F16C=ON} \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF
cmake --build "$folder/llama-build" --target llama-server --parallel "$jobs"
ln -sf "$folder/llama-build/bin/llama-server" "$folder/llama-server"

# vllm-mlx; on Linux it needs mlx's CPU part named.
"$python" -m venv "$folder/vllm"
"$folder/vllm/bin/pip" install --quiet vllm-mlx==0.6.0 'mlx[cpu]'
ln -sf "$folder/vllm/bin/vllm-mlx" "$folder/vllm-mlx"
