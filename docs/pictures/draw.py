"""Draw the pictures of the chapters on concepts, from demo faces and what the shipped networks answered.

    python docs/pictures/draw.py [NAME ...]    # all, or some of: ccc enrichment leakage seeds shunt

`portrait.png` is `fcx predict fcx/data/demo/portraits/nasa_astronaut.jpg`.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
INK, BLUE, RED, GREEN = "#1f2430", "#0072B2", "#D55E00", "#009E73"
plt.rcParams |= {
    "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "svg.hashsalt": "fcx",
    "axes.edgecolor": "#8b93a1", "axes.labelcolor": INK, "figure.dpi": 110, "savefig.dpi": 110,
}  # fmt: skip


def save(figure, name: str) -> None:
    """Write a figure beside this script, the same bytes each time."""
    figure.savefig(HERE / name, metadata={"Date": None} if name.endswith("svg") else None, bbox_inches="tight")
    plt.close(figure)
    if name.endswith("png"):
        Image.open(HERE / name).convert("RGB").quantize(192).save(HERE / name, optimize=True)


def demo_scores():
    """Return what the shipped networks answered to the demo faces."""
    from fcx.studies import read_study

    return read_study(ROOT / "checkpoints" / "scores").scores["demo", "table2"]


def ccc() -> None:
    """Four clouds of points: a bare shift and a bare shrinkage leave r as it is; a network, plain and masked."""
    from fcx.statistics.concordance import ccc_parts

    scores = demo_scores()
    one = scores.sel(model="plain_scratch-1", target="valence") if "target" in scores.dims else scores
    truth = scores["valence"].values
    made = one["prediction"].sel(condition="plain").values
    known = np.isfinite(truth) & np.isfinite(made)
    random = np.random.default_rng(0)
    label = random.uniform(-0.9, 0.9, 150)
    good = label + random.normal(0, 0.15, 150)
    clouds = {
        "agrees": (label, good), "the same, shifted by .6": (label, good + 0.6),
        "plain_scratch, plain faces": (truth[known], made[known]),
        "plain_scratch, the same faces masked": (truth[known], one["prediction"].sel(condition="masked").values[known]),
    }  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 7.4), sharex=True, sharey=True)
    for axis, (title, (x, y)) in zip(axes.flat, clouds.items(), strict=True):
        parts = ccc_parts(y, x)
        axis.plot([-1, 1], [-1, 1], color="#8b93a1", linewidth=1)
        axis.plot(x, y, "o", color=RED if "masked" in title else BLUE, markersize=3.5, alpha=0.6, markeredgewidth=0)
        axis.set(xlim=(-1.05, 1.05), ylim=(-1.25, 1.9))
        axis.set_title(f"{title}\nr {parts['pearson']:.2f}   CCC {parts['ccc']:.2f}", fontsize=11, loc="left")
    figure.supxlabel("what people say (valence)"), figure.supylabel("what the network says")
    figure.tight_layout()
    save(figure, "ccc.png")


def enrichment() -> None:
    """One portrait: its regions, a map, and mass against area by region."""
    import fcx
    from fcx.figures.montage import heat, picture
    from fcx.figures.panels import paint_regions

    faces = fcx.prepare(str(ROOT / "fcx/data/demo/portraits/nasa_astronaut.jpg"), progress=False)
    maps = fcx.attribute("plain_scratch", faces, methods="lrp_gamma", targets="valence")
    values = maps["attribution"].sel(condition="plain").squeeze(drop=True).values
    scores = fcx.region_statistics(maps, faces, draws=100).sel(condition="plain").squeeze(drop=True)
    names = [name for name in faces["region"].values.tolist() if name != "background"]
    tile = picture(faces, "plain", 0)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.6, 3.3), width_ratios=[1, 1, 1.35])
    left.imshow(paint_regions(tile, faces["regions"].isel(sample=0).values)), left.set_title("regions", fontsize=11)
    middle.imshow(heat(tile, values, float(np.quantile(np.abs(values), 0.995)), True))
    middle.set_title("map: red raises valence", fontsize=11)
    for axis in (left, middle):
        axis.axis("off")
    share, area = (100 * scores[name].sel(region=names).values for name in ("share", "area"))
    place = np.arange(len(names))[::-1]
    right.barh(place + 0.2, share, 0.38, color=BLUE, label="of the map's mass, %")
    right.barh(place - 0.2, area, 0.38, color="#b8bfca", label="of the area, %")
    for y, value, end in zip(place, np.log2(share / area), np.maximum(share, area), strict=True):
        right.text(end + 1, y, f"{value:+.1f}", va="center", color=INK)
    right.set_yticks(place, names), right.set_xlim(0, 1.35 * max(share.max(), area.max()))
    right.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    right.set_title("behind each bar: enrichment (log2)", fontsize=11)
    figure.tight_layout()
    save(figure, "enrichment.png")


def leakage() -> None:
    """The face with the widest and one with a closed mouth, with three masks: which outlines tell them apart."""
    import fcx
    from fcx.masks import mask_options, paint_mask

    faces = fcx.prepare("demo", limit=60, progress=False)
    points = faces["landmarks"].values
    open_mouth = points[:, 66, 1] - points[:, 62, 1]
    looks = {"rigid": {"fit": "rigid"}, "jaw": {"fit": "jaw"}, "published": {"style": "published"}}
    figure, axes = plt.subplots(2, 4, figsize=(8.4, 4.5))
    for row, index in enumerate((int(np.argmin(open_mouth)), int(np.argmax(open_mouth)))):
        one = faces.isel(sample=index)
        tile = one["picture"].sel(condition="plain").values
        mesh = one["mesh"].values * (tile.shape[0] / faces.sizes["y"])
        axes[row, 0].imshow(tile)
        for axis, (name, look) in zip(axes[row, 1:], looks.items(), strict=True):
            options = mask_options(**look, jitter=0)
            paint, alpha = paint_mask(tile, mesh, options, sample="0")
            cover = alpha[..., None] / 255
            axis.imshow(np.uint8(tile * (1 - cover) + paint * cover))
            axis.contour(alpha, [127], colors=RED, linewidths=1.4)
            axes[0, 0].set_title("plain", fontsize=11), axis.set_title(name if row == 0 else "", fontsize=11)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    save(figure, "leakage.png")


def seeds() -> None:
    """The CCC of every training of two families, and the interval over faces alone and over faces and seeds."""
    from fcx.studies import contrast, drawn_scores

    drawn = drawn_scores(demo_scores())
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), sharex=True, sharey=True)
    cells = [("plain_scratch", "plain"), ("plain_scratch", "masked"), ("masked_scratch", "masked")]
    for axis, target in zip(axes, ("arousal", "valence"), strict=True):
        for y, (family, condition) in enumerate(reversed(cells)):
            one = contrast(drawn, {(family, condition): 1}).sel(target=target)
            alone = drawn.isel(draw=0, model=drawn["family"].values == family).sel(condition=condition, target=target)
            axis.plot([one["low"], one["high"]], [y, y], color=BLUE, linewidth=2)
            axis.plot(one["estimate"], y, "o", color=BLUE, markersize=8)
            axis.plot(alone.values, np.full(alone.size, y + 0.22), "o", color=RED, markersize=4.5)
        axis.set(title=f"CCC, {target}", ylim=(-0.5, 2.6))
        axis.set_yticks(range(3), [f"{family}\n{condition} faces" for family, condition in reversed(cells)])
        axis.grid(axis="x", color="#d8dce3")
    figure.tight_layout()
    save(figure, "seeds.svg")


def shunt() -> None:
    """What the shunt computes, and the share of relevance that three rules hand to inhibition."""
    import torch

    from fcx.attribution.lrp_rules import SHUNT_RULES

    t = torch.linspace(0, 6, 200, dtype=torch.float64)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
    left.plot(t, 1 / (1 + t), color=INK)
    left.set(title="y / (u / a): what inhibition leaves", xlabel="t = I / a", ylim=(0, 1.05))
    looks = zip(SHUNT_RULES.items(), (GREEN, BLUE, RED), ("dotted", "solid", "dashed"), strict=True)
    for (name, rule), colour, line in looks:
        right.plot(t, rule(t), color=colour, linestyle=line, linewidth=2, label=name.replace("_", " "))
    right.set(title="k: R to u is (1 + k) R, to I is -k R", xlabel="t = I / a")
    right.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    save(figure, "shunt.svg")


PICTURES = {function.__name__: function for function in (ccc, enrichment, leakage, seeds, shunt)}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
