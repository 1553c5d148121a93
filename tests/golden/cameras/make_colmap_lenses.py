"""Write colmap_lenses.json: where pycolmap 4.2 (BSD) puts directions for every camera model."""

import json
import random
from pathlib import Path

import pycolmap

draw = random.Random(0)
extra = {
    "SIMPLE_PINHOLE": [], "PINHOLE": [], "SIMPLE_RADIAL": [0.07], "RADIAL": [0.07, -0.03],
    "OPENCV": [0.07, -0.03, 0.004, -0.003], "FULL_OPENCV": [0.07, -0.03, 0.004, -0.003, 0.01, 0.02, -0.01, 0.005],
    "FOV": [0.8], "SIMPLE_DIVISION": [-0.08], "DIVISION": [0.06], "SIMPLE_FISHEYE": [], "FISHEYE": [],
    "SIMPLE_RADIAL_FISHEYE": [0.05], "RADIAL_FISHEYE": [0.05, -0.02], "OPENCV_FISHEYE": [0.05, -0.02, 0.01, -0.004],
    "THIN_PRISM_FISHEYE": [0.05, -0.02, 0.003, -0.002, 0.01, -0.004, 0.002, 0.001],
    "RAD_TAN_THIN_PRISM_FISHEYE": [0.05, -0.02, 0.01, -0.004, 0.002, -0.001,
                                   0.003, -0.002, 0.001, 0.002, -0.001, 0.002],
    "EUCM": [0.6, 1.1],
}  # fmt: skip
directions = [[draw.uniform(-0.9, 0.9), draw.uniform(-0.7, 0.7), 1.0] for _ in range(40)]
table = {}
for model, params in extra.items():
    is_single = model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE")
    focal = [1.0] if is_single else [1.0, 1.0]
    camera = pycolmap.Camera(model=model, width=2, height=2, params=[*focal, 0.0, 0.0, *params])
    points = [camera.img_from_cam([*direction]) for direction in directions]
    table[model] = {"params": params, "points": [None if p is None else [float(v) for v in p] for p in points]}
document = {"directions": [direction[:2] for direction in directions], "models": table}
Path(__file__).with_name("colmap_lenses.json").write_text(json.dumps(document))
