"""The papers behind the methods, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One work to cite."""

    title: str
    """Title."""
    authors: tuple[str, ...]
    """Given and family names."""
    year: int
    """Year of the first version."""
    source: str
    """Number on arXiv, or an address."""

    def bibtex(self, key: str) -> str:
        """The entry under ``key``."""
        arxiv = not self.source.startswith("http")
        where = {"eprint": self.source, "archivePrefix": "arXiv"} if arxiv else {"url": self.source}
        fields = {"title": f"{{{self.title}}}", "author": " and ".join(self.authors), "year": str(self.year), **where}
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{key},\n{lines}\n}}"


PAPERS: dict[str, Paper] = {
    "karras2022edm": Paper(
        "Elucidating the Design Space of Diffusion-Based Generative Models",
        ("Tero Karras", "Miika Aittala", "Timo Aila", "Samuli Laine"),
        2022,
        "2206.00364",
    ),
    "song2023consistency": Paper(
        "Consistency Models",
        ("Yang Song", "Prafulla Dhariwal", "Mark Chen", "Ilya Sutskever"),
        2023,
        "2303.01469",
    ),
    "song2023improved": Paper(
        "Improved Techniques for Training Consistency Models", ("Yang Song", "Prafulla Dhariwal"), 2023, "2310.14189"
    ),
    "geng2024easy": Paper(
        "Consistency Models Made Easy",
        ("Zhengyang Geng", "Ashwini Pokle", "William Luo", "Justin Lin", "J. Zico Kolter"),
        2024,
        "2406.14548",
    ),
    "lu2024continuous": Paper(
        "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
        ("Cheng Lu", "Yang Song"),
        2024,
        "2410.11081",
    ),
    "lee2024truncated": Paper(
        "Truncated Consistency Models",
        (
            "Sangyun Lee",
            "Yilun Xu",
            "Tomas Geffner",
            "Giulia Fanti",
            "Karsten Kreis",
            "Arash Vahdat",
            "Weili Nie",
        ),
        2024,
        "2410.14895",
    ),
    "kim2023trajectory": Paper(
        "Consistency Trajectory Models: Learning Probability Flow ODE Trajectory of Diffusion",
        (
            "Dongjun Kim",
            "Chieh-Hsin Lai",
            "Wei-Hsiang Liao",
            "Naoki Murata",
            "Yuhta Takida",
            "Toshimitsu Uesaka",
            "Yutong He",
            "Yuki Mitsufuji",
            "Stefano Ermon",
        ),
        2023,
        "2310.02279",
    ),
    "geng2025meanflow": Paper(
        "Mean Flows for One-step Generative Modeling",
        ("Zhengyang Geng", "Mingyang Deng", "Xingjian Bai", "J. Zico Kolter", "Kaiming He"),
        2025,
        "2505.13447",
    ),
    "geng2025improved": Paper(
        "Improved Mean Flows: On the Challenges of Fastforward Generative Models",
        ("Zhengyang Geng", "Yiyang Lu", "Zongze Wu", "Eli Shechtman", "J. Zico Kolter", "Kaiming He"),
        2025,
        "2512.02012",
    ),
    "frans2024shortcut": Paper(
        "One Step Diffusion via Shortcut Models",
        ("Kevin Frans", "Danijar Hafner", "Sergey Levine", "Pieter Abbeel"),
        2024,
        "2410.12557",
    ),
    "zhou2025moment": Paper(
        "Inductive Moment Matching", ("Linqi Zhou", "Stefano Ermon", "Jiaming Song"), 2025, "2503.07565"
    ),
    "deng2026drifting": Paper(
        "Generative Modeling via Drifting",
        ("Mingyang Deng", "He Li", "Tianhong Li", "Yilun Du", "Kaiming He"),
        2026,
        "2602.04770",
    ),
    "wang2024phased": Paper(
        "Phased Consistency Models",
        (
            "Fu-Yun Wang",
            "Zhaoyang Huang",
            "Alexander William Bergman",
            "Dazhong Shen",
            "Peng Gao",
            "Michael Lingelbach",
            "Keqiang Sun",
            "Weikang Bian",
            "Guanglu Song",
            "Yu Liu",
            "Xiaogang Wang",
            "Hongsheng Li",
        ),
        2024,
        "2405.18407",
    ),
    "heek2024multistep": Paper(
        "Multistep Consistency Models", ("Jonathan Heek", "Emiel Hoogeboom", "Tim Salimans"), 2024, "2403.06807"
    ),
    "meng2022guided": Paper(
        "On Distillation of Guided Diffusion Models",
        (
            "Chenlin Meng",
            "Robin Rombach",
            "Ruiqi Gao",
            "Diederik P. Kingma",
            "Stefano Ermon",
            "Jonathan Ho",
            "Tim Salimans",
        ),
        2022,
        "2210.03142",
    ),
    "ho2022guidance": Paper("Classifier-Free Diffusion Guidance", ("Jonathan Ho", "Tim Salimans"), 2022, "2207.12598"),
    "pooladian2023multisample": Paper(
        "Multisample Flow Matching: Straightening Flows with Minibatch Couplings",
        (
            "Aram-Alexandre Pooladian",
            "Heli Ben-Hamu",
            "Carles Domingo-Enrich",
            "Brandon Amos",
            "Yaron Lipman",
            "Ricky T. Q. Chen",
        ),
        2023,
        "2304.14772",
    ),
    "yang2026fd": Paper(
        "Representation Fréchet Loss for Visual Generation",
        ("Jiawei Yang", "Zhengyang Geng", "Xuan Ju", "Yonglong Tian", "Yue Wang"),
        2026,
        "2604.28190",
    ),
    "karras2023dynamics": Paper(
        "Analyzing and Improving the Training Dynamics of Diffusion Models",
        ("Tero Karras", "Miika Aittala", "Jaakko Lehtinen", "Janne Hellsten", "Timo Aila", "Samuli Laine"),
        2023,
        "2312.02696",
    ),
    "jordan2024muon": Paper(
        "Muon: An optimizer for hidden layers in neural networks",
        (
            "Keller Jordan",
            "Yuchen Jin",
            "Vlado Boza",
            "Jiacheng You",
            "Franz Cesista",
            "Laker Newhouse",
            "Jeremy Bernstein",
        ),
        2024,
        "https://kellerjordan.github.io/posts/muon/",
    ),
    "xiao2017fashion": Paper(
        "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
        ("Han Xiao", "Kashif Rasul", "Roland Vollgraf"),
        2017,
        "1708.07747",
    ),
    "pasini2024music2latent": Paper(
        "Music2Latent: Consistency Autoencoders for Latent Audio Compression",
        ("Marco Pasini", "Stefan Lattner", "George Fazekas"),
        2024,
        "2408.06500",
    ),
    "valevski2024gamengen": Paper(
        "Diffusion Models Are Real-Time Game Engines",
        ("Dani Valevski", "Yaniv Leviathan", "Moab Arar", "Shlomi Fruchter"),
        2024,
        "2408.14837",
    ),
    "alonso2024diamond": Paper(
        "Diffusion for World Modeling: Visual Details Matter in Atari",
        (
            "Eloi Alonso",
            "Adam Jelley",
            "Vincent Micheli",
            "Anssi Kanervisto",
            "Amos Storkey",
            "Tim Pearce",
            "François Fleuret",
        ),
        2024,
        "2405.12399",
    ),
    "ross2011dagger": Paper(
        "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online Learning",
        ("Stéphane Ross", "Geoffrey J. Gordon", "J. Andrew Bagnell"),
        2011,
        "1011.0686",
    ),
    "huang2025selfforcing": Paper(
        "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion",
        ("Xun Huang", "Zhengqi Li", "Guande He", "Mingyuan Zhou", "Eli Shechtman"),
        2025,
        "2506.08009",
    ),
    "chen2024diffusionforcing": Paper(
        "Diffusion Forcing: Next-token Prediction Meets Full-Sequence Diffusion",
        ("Boyuan Chen", "Diego Marti Monso", "Yilun Du", "Max Simchowitz", "Russ Tedrake", "Vincent Sitzmann"),
        2024,
        "2407.01392",
    ),
}
"""Papers by BibTeX key."""


def bibtex(keys: Iterable[str]) -> str:
    """The entries of ``keys``, each once, in their order."""
    return "\n\n".join(PAPERS[key].bibtex(key) for key in dict.fromkeys(keys)) + "\n"
