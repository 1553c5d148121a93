# An image whose program is ssd-edit, for a CPU; two arguments make it one for NVIDIA's GPUs (docs/install.md).
ARG BASE=python:3.11-slim
FROM ${BASE}

# Without an option that names PyTorch's index for CPUs, Linux gets the torch for CUDA, which is several GB more.
ARG PIP_OPTIONS=""

# The base for CUDA has a compiler, with which gsplat builds its kernels at the first render, and no Python.
RUN command -v python3 || (apt-get update && apt-get install -y --no-install-recommends python3-venv python3-dev)
RUN python3 -m venv /opt/ssd
ENV PATH=/opt/ssd/bin:$PATH

WORKDIR /src
COPY requirements.txt requirements-extra.txt ./
RUN pip install --no-cache-dir ${PIP_OPTIONS} -r requirements.txt -r requirements-extra.txt
COPY pyproject.toml setup.py LICENSE ./
COPY threestudio threestudio
COPY custom custom
COPY configs configs
COPY data data
RUN pip install --no-cache-dir --no-deps .

# Results are written into the folder that is mounted here.
WORKDIR /work
ENTRYPOINT ["ssd-edit"]
CMD ["--help"]
