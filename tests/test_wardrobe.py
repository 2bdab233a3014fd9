"""The galleries of styles and of ways of wearing, read back from their pixels."""

import base64

import cv2
import numpy as np

from fcx import figures
from fcx.figures.mask_galleries import WAYS
from fcx.figures.montage import GAP, TILE
from fcx.geometry.crops import scaled
from fcx.masks import STYLES, wear_mask


def tile(figure, row, column):
    """Return one picture (y, x, RGB) of a montage."""
    data = base64.b64decode(figure.layout.images[0].source.split(",", 1)[1])
    canvas = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    y, x = row * (TILE + GAP), column * (TILE + GAP)
    return canvas[y : y + TILE, x : x + TILE].astype(float)


def expected(demo, index, **how):
    picture = demo["picture"].sel(condition="plain").isel(sample=index).values
    mesh = scaled(demo["mesh"].values[index].astype(float), 224 / 64)
    masked, _ = wear_mask(picture, mesh, sample=str(demo["sample"].values[index]), **how)
    return cv2.resize(masked, (TILE, TILE)).astype(float)


def test_every_style_is_drawn_on_every_face(demo):
    ids = ",".join(demo["sample"].values[:2])
    figure = figures.style_gallery(demo, ids)
    assert list(dict.fromkeys(figure.table["style"])) == list(STYLES)
    assert (figure.table["covered"] > 0.02).all()
    for row, name in enumerate(STYLES):
        drawn = tile(figure, row, 1)
        wanted = expected(demo, 1, style=name, colour="any")
        others = expected(demo, 1, style="sunglasses" if name != "sunglasses" else "surgical")
        assert np.abs(drawn - wanted).mean() < 4  # the picture is compressed
        assert np.abs(drawn - others).mean() > 6


def test_every_way_of_wearing_is_drawn(demo):
    figure = figures.wearing_gallery(demo, ",".join(demo["sample"].values[:2]), style="ffp2")
    assert list(dict.fromkeys(figure.table["row"])) == [name for name, _ in WAYS]
    mesh = scaled(demo["mesh"].values[1].astype(float), 224 / 64)
    for row, (_, how) in enumerate(WAYS):
        donor = {"donor": mesh} if how.get("fit") == "donor" else {}
        assert np.abs(tile(figure, row, 0) - expected(demo, 0, style="ffp2", **how, **donor)).mean() < 4


def test_a_store_without_pictures_shows_its_grid(demo):
    figure = figures.style_gallery(demo.drop_vars("picture"), demo["sample"].values[0])
    assert "styles" in figure.meta["name"]
    assert tile(figure, 0, 0).std() > 5
