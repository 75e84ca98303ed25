# The lessons in a container: `docker build -t intuitive .`, then
# `docker run -p 8888:8888 -v "$PWD/my-lessons:/srv/learner/intuitive-lessons" intuitive`.
# torch's default build brings CUDA, some gigabytes: without a GPU name the index of its CPU build,
# as PyTorch's installation page does, with --build-arg PIP_EXTRA_INDEX_URL=ADDRESS.
FROM python:3.13-slim
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=2
COPY . /srv/intuitive
RUN python -m pip install -c /srv/intuitive/constraints.txt /srv/intuitive
RUN useradd --create-home --home-dir /srv/learner --uid 1000 learner
USER learner
WORKDIR /srv/learner
RUN mkdir intuitive-lessons && intuitive model && intuitive doctor
EXPOSE 8888
CMD ["intuitive", "lab", "--no-browser", "--ip=0.0.0.0", "--port=8888"]
