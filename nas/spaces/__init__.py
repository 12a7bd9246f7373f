"""Search spaces, one a file."""

BUILTIN = {
    "conv": "nas.spaces.conv:ConvSpace",
    "darts": "nas.spaces.darts:DartsSpace",
    "hpo_tabular": "nas.spaces.hpo_tabular:HpoTabularSpace",
    "hw_gpt_bench": "nas.spaces.hw_gpt_bench:HwGptBenchSpace",
    "hyper": "nas.spaces.hyper:HyperSpace",
    "join": "nas.spaces.join:Join",
    "mlp": "nas.spaces.mlp:MlpSpace",
    "mobile": "nas.spaces.mobile:MobileSpace",
    "nasbench201": "nas.spaces.nasbench201:NasBench201Space",
    "nasbench_graph": "nas.spaces.nasbench_graph:NasBenchGraphSpace",
    "nasbench_macro": "nas.spaces.nasbench_macro:NasBenchMacroSpace",
    "pool": "nas.spaces.pool:PoolSpace",
    "program": "nas.spaces.program:ProgramSpace",
    "table": "nas.spaces.table:TableSpace",
    "transnasbench101_macro": "nas.spaces.transnasbench101:TransNasBench101Macro",
    "transnasbench101_micro": "nas.spaces.transnasbench101:TransNasBench101Micro",
    "vit": "nas.spaces.vit:VitSpace",
}
