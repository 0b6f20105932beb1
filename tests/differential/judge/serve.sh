#!/bin/sh
# The real `vllm serve` with no GPU and no weights, as the judge of HTTP behaviour: everything is vLLM's but the model.
#   VLLM_ENV=.venv-vllm tests/differential/judge/serve.sh PORT MODEL_FOLDER [flags of vllm serve]
# MODEL_FOLDER holds config.json and a tokenizer. Listens on 127.0.0.1 only; stop it with Ctrl-C or by its process id.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
env=${VLLM_ENV:?is the folder of the virtual environment that holds vLLM}
port=$1
model=$2
shift 2
plugin=${TMPDIR:-/tmp}/understudy-judge-plugin
mkdir -p "$plugin/no_gpu-0.1.dist-info"
printf 'Metadata-Version: 2.1\nName: no_gpu\nVersion: 0.1\n' > "$plugin/no_gpu-0.1.dist-info/METADATA"
printf '[vllm.platform_plugins]\nno_gpu = no_gpu:register\n' > "$plugin/no_gpu-0.1.dist-info/entry_points.txt"
export PYTHONPATH="$plugin:$here" PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 VLLM_TARGET_DEVICE=cpu VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_USE_V2_MODEL_RUNNER=1 VLLM_LOGGING_LEVEL="${VLLM_LOGGING_LEVEL:-ERROR}"
exec "$env/bin/vllm" serve "$model" --served-model-name m --port "$port" --host 127.0.0.1 \
  --distributed-executor-backend no_gpu.NoGpuExecutor --enforce-eager --disable-uvicorn-access-log "$@"
