"""Tasks, one a file."""

BUILTIN = {
    "cifar10": "nas.tasks.cifar10:Cifar10",
    "digits": "nas.tasks.digits:Digits",
    "fashion_mnist": "nas.tasks.fashion_mnist:FashionMnist",
    "image_folder": "nas.tasks.image_folder:ImageFolder",
    "table": "nas.tasks.table:Table",
}
