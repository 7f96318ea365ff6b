#!/usr/bin/env bash
# Installs Slurm where that takes no more than apt-get; elsewhere the tests say what they lack and are skipped.
PATH=$PATH:/usr/sbin
command -v slurmctld slurmd munged >/dev/null && exit
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null && exit
fi
echo "Slurm cannot be installed here: what is in tests/cluster is not tested" >&2
