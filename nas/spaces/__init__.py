"""Search spaces, one a file."""

BUILTIN = {
    "conv": "nas.spaces.conv:ConvSpace",
    "hyper": "nas.spaces.hyper:HyperSpace",
    "join": "nas.spaces.join:Join",
    "mlp": "nas.spaces.mlp:MlpSpace",
    "nasbench201": "nas.spaces.nasbench201:NasBench201Space",
    "program": "nas.spaces.program:ProgramSpace",
}
