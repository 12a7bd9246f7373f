"""Machines that latency, memory and energy refer to."""

BUILTIN = {"host": "nas.target:host"}
