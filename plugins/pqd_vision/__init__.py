"""The bundled networks and datasets: what there is; the code behind each record is imported when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from pqd_core import BackboneDef, DatasetDef, hookimpl
from pqd_vision import fingerprints
from pqd_vision.settings import Digits, ImageFolder, NpzFile, Published, PythonNetwork, TorchvisionModel, Width


@hookimpl
def pqd_backbones() -> Iterable[BackboneDef]:
    """Networks for small images, torchvision's, and the user's own."""
    return [
        BackboneDef(
            name="resnet18-cifar",
            summary="ResNet-18 with a 3x3 stem (He et al. 2015), 11.2 M parameters.",
            settings=Width,
            load="pqd_vision.resnet18_cifar",
        ),
        BackboneDef(
            name="wrn-28-10",
            summary="Wide residual network of 28 layers (Zagoruyko and Komodakis 2016), 36.5 M parameters.",
            settings=Width,
            load="pqd_vision.wrn_28_10",
        ),
        BackboneDef(
            name="vgg16-bn",
            summary="VGG-16 with batch norm, in its CIFAR form (Simonyan and Zisserman 2015), 14.7 M parameters.",
            settings=Width,
            load="pqd_vision.vgg16_bn",
        ),
        BackboneDef(
            name="resnet20",
            summary="ResNet-20 for CIFAR (He et al. 2015, section 4.2) with option B shortcuts, 0.27 M parameters.",
            settings=Width,
            load="pqd_vision.resnet20",
        ),
        BackboneDef(
            name="torchvision",
            summary="Any classification model of torchvision by its name, with or without its published weights.",
            settings=TorchvisionModel,
            load="pqd_vision.torchvision_model",
            fingerprint=fingerprints.torchvision_model,
        ),
        BackboneDef(
            name="python",
            summary="Your own network: a callable of a module or of a Python file.",
            settings=PythonNetwork,
            load="pqd_vision.python_network",
            fingerprint=fingerprints.python_network,
        ),
    ]


@hookimpl
def pqd_datasets() -> Iterable[DatasetDef]:
    """Published datasets, and files and folders of the user's own."""
    return [
        DatasetDef(
            name="cifar10",
            summary="CIFAR-10 in torchvision's layout: 60,000 images of 32x32 in 10 classes.",
            settings=Published,
            load="pqd_vision.published:CIFAR10",
            fingerprint=partial(fingerprints.published, "cifar10"),
        ),
        DatasetDef(
            name="cifar100",
            summary="CIFAR-100 in torchvision's layout: 60,000 images of 32x32 in 100 classes.",
            settings=Published,
            load="pqd_vision.published:CIFAR100",
            fingerprint=partial(fingerprints.published, "cifar100"),
        ),
        DatasetDef(
            name="fashion-mnist",
            summary="Fashion-MNIST in torchvision's layout: 70,000 grey images of 28x28 in 10 classes.",
            settings=Published,
            load="pqd_vision.published:FASHION_MNIST",
            fingerprint=partial(fingerprints.published, "fashion-mnist"),
        ),
        DatasetDef(
            name="digits",
            summary="The 1,797 handwritten digits that come with scikit-learn; nothing to download.",
            settings=Digits,
            load="pqd_vision.digits",
            fingerprint=fingerprints.digits,
        ),
        DatasetDef(
            name="image-folder",
            summary="Your own images: root/train/CLASS/*.jpg and root/test/CLASS/*.jpg (or val).",
            settings=ImageFolder,
            load="pqd_vision.image_folder",
            fingerprint=fingerprints.image_folder,
        ),
        DatasetDef(
            name="npz",
            summary="Your own arrays: one .npz file with x_train, y_train, x_test and y_test.",
            settings=NpzFile,
            load="pqd_vision.npz",
            fingerprint=fingerprints.npz,
        ),
    ]
