"""Weight sharing: elastic layers, and supernets made of them."""

from nas.sharing.choice import Choice, Zero
from nas.sharing.conv2d import ElasticConv2d
from nas.sharing.elastic import Elastic, Followed, Relaxed, Rule, specialised
from nas.sharing.embedding import ElasticEmbedding
from nas.sharing.linear import ElasticLinear
from nas.sharing.norm import ElasticNorm
from nas.sharing.product import Product
from nas.sharing.resize import ElasticResize
from nas.sharing.sequence import ElasticSequential
from nas.sharing.space import ElasticSpace
from nas.sharing.supernet import ElasticSupernet

__all__ = [
    "Choice",
    "Elastic",
    "ElasticConv2d",
    "ElasticEmbedding",
    "ElasticLinear",
    "ElasticNorm",
    "ElasticResize",
    "ElasticSequential",
    "ElasticSpace",
    "ElasticSupernet",
    "Followed",
    "Product",
    "Relaxed",
    "Rule",
    "Zero",
    "specialised",
]
