"""Published figures of other work. They show the range; they are no rows of our tables."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row: accuracy of the task and success of the attacker, undefended (u) and defended (d), as the source has them."""

    work: str
    data: str
    task: str
    attacker: str


_HE_DROPOUT = "He et al., IoT-J 2020 (dropout at the cut)"
_AGAINST_WHITE_BOX = "d: SSIM < 0.25, against a white-box search alone"

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "digits": (
        Published(
            "He, Zhang, Lee, ACSAC 2019",
            "MNIST, LeNet-5, after the 2nd convolution's ReLU",
            "",
            "u: decoder SSIM 0.733 (same training set), 0.805 (same distribution); white box 0.600",
        ),
        Published(_HE_DROPOUT, "MNIST, ReLU2", "> 95 %", _AGAINST_WHITE_BOX),
    ),
    "objects": (
        Published(
            "He, Zhang, Lee, ACSAC 2019",
            "CIFAR-10, 6 convolutions + 2 dense: after convolution 1 / the 4th / the 6th convolution's ReLU",
            "",
            "u: decoder SSIM 0.999 / 0.694 / 0.312",
        ),
        Published(_HE_DROPOUT, "CIFAR-10, 4th convolution", "drop < 0.8 points", _AGAINST_WHITE_BOX),
        Published(
            "Inf2Guard, USENIX Security 2024 (authors' logs)",
            "CIFAR-10, after 2 convolutions + BN",
            "90 -> 85 / 78 / 69 %",
            "SSIM 0.78 -> 0.20-0.48 / 0.17 / 0.23 (different attacks u and d)",
        ),
        Published("ResSFL, CVPR 2022", "CIFAR-100, VGG-11", "68.5 -> 67.5 %", "MSE 0.005 -> 0.050"),
    ),
    "faces": (
        Published(
            "DeepObfuscator, IoTDI 2021",
            "CelebA, VGG-16 after pool 2",
            "drop about 2 points",
            "MS-SSIM 0.946 -> 0.318; gender 97.4 -> 58.9 %",
        ),
        Published(
            "AIOI, ICML 2019",
            "FaceScrub, 200 people, image filter",
            "identity top-5 98.8 -> 92.9 %",
            "gender 98.6 -> 78.5 % (prior 55.8)",
        ),
        Published(
            "EIGAN's re-run of both",
            "FaceScrub, 200 people, image filter",
            "AIOI 69.3 -> 55.8, EIGAN 63.3 -> 82.0 %",
            "gender 97.7 -> 68.2; 97.7 -> 67.6 %",
        ),
        Published("CEM, CVPR 2025 (third-party re-run)", "FaceScrub, VGG-11", "80.3 % d", "decoder MSE 0.0211, GAN 0.0231 d"),
        Published("DualPath-CEM README", "FaceScrub, VGG-11", "82.0 % (95 % interval 81.8-82.1) d", "decoder MSE 0.0371, GAN 0.0404 d"),
    ),
}
