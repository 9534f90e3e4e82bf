"""Draw puppets: ellipsoids cut by view rays, features painted in head coordinates. Torch only, any size, any device.

Shapes: N pictures, S pixels a side. Head coordinates: x to the image's right, y down, z towards the camera; the head is
about one unit high. Every edge is a sigmoid about one pixel wide, so pictures are smooth in every parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.puppets.parameters import COLUMN

FACE_DEPTH = 0.85
EYE_WHITE = 0.93


def render(parameters_ND: Tensor, size: int, batch: int = 4, picture_from_crop_N23: Tensor | None = None) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] of parameters (N, len(NAMES)).

    picture_from_crop_N23: draw only this square of each picture, by the affine map from its own coordinates (-1 to 1).
    """
    with torch.no_grad():
        parts = [None] * len(parameters_ND) if picture_from_crop_N23 is None else picture_from_crop_N23.split(batch)
        return torch.cat([_Picture(p, size, q).draw() for p, q in zip(parameters_ND.split(batch), parts, strict=False)])


def rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> list[list[Tensor]]:
    """Rz(roll) Ry(yaw) Rx(pitch), acting on head coordinates; angles in radians."""
    cy, sy, cp, sp, cr, sr = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin(), roll.cos(), roll.sin()
    return [
        [cr * cy, cr * sy * sp - sr * cp, cr * sy * cp + sr * sp],
        [sr * cy, sr * sy * sp + cr * cp, sr * sy * cp - cr * sp],
        [-sy, cy * sp, cy * cp],
    ]


def _hsv(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Colours (N, 3, 1, 1) from (N, 1, 1) hue, saturation and value."""

    def channel(shift: float) -> Tensor:
        k = (shift + hue * 6) % 6
        return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], 1)


def _mix(image: Tensor, colour: Tensor | float, cover: Tensor) -> Tensor:
    return image + (colour - image) * cover.unsqueeze(1)


def _shade(image: Tensor, factor: Tensor) -> Tensor:
    return image * factor.unsqueeze(1)


def _dot(a: list[Tensor], b: list[Tensor], weight: Sequence[Tensor | float] = (1.0, 1.0, 1.0)) -> Tensor:
    return a[0] * b[0] * weight[0] + a[1] * b[1] * weight[1] + a[2] * b[2] * weight[2]


def _bump(x: Tensor) -> Tensor:
    return torch.exp(-(x**2))


class _Picture:
    """One batch of pictures while it is drawn, back to front."""

    def __init__(self, parameters: Tensor, size: int, picture_from_crop_N23: Tensor | None) -> None:
        self.p = {name: parameters[:, column].view(-1, 1, 1) for name, column in COLUMN.items()}
        p = self.p
        line = (torch.arange(size, device=parameters.device, dtype=parameters.dtype) + 0.5) / size * 2 - 1
        self.row, self.col = line.view(1, size, 1), line.view(1, 1, size)
        self.pixel: Tensor | float = 2 / size
        if picture_from_crop_N23 is not None:
            across, down = (picture_from_crop_N23[:, i, :, None, None] for i in (0, 1))
            x, y = self.col, self.row
            self.col, self.row = (part[:, 0] * x + part[:, 1] * y + part[:, 2] for part in (across, down))
            self.pixel = self.pixel * torch.linalg.det(picture_from_crop_N23[:, :, :2]).sqrt()[:, None, None]
        self.rotation = rotation(p["yaw"] * 0.6, p["pitch"] * 0.4, p["roll"] * 0.35)
        scale = 0.86 * (1 + 0.15 * p["scale"])
        self.shift_x, self.shift_y = 0.18 * p["shift_x"], 0.14 * p["shift_y"] + 0.04
        x, y = (self.col - self.shift_x) / scale, (self.row - self.shift_y) / scale
        self.edge = self.pixel / scale * 0.45
        self.origin = [self.rotation[0][i] * x + self.rotation[1][i] * y for i in range(3)]
        self.ray = list(self.rotation[2])
        light = [0.7 * p["light_x"], -0.45 + 0.4 * p["light_y"], torch.ones_like(p["yaw"])]
        norm = torch.rsqrt(light[0] ** 2 + light[1] ** 2 + 1)
        self.light = [part * norm for part in light]
        self.ambient = 0.45 + 0.15 * p["ambient"]
        self.jaw = p["jaw"] * (1 + 0.15 * p["mouth_corner"])
        self.face_w, self.face_h = 0.74 * (1 + 0.13 * p["face_width"]), 1.0 * (1 + 0.09 * p["face_height"])
        self._colours()

    def _colours(self) -> None:
        p = self.p
        one = torch.ones_like(p["yaw"])
        self.skin = _hsv(0.055 + 0.018 * p["skin_hue"], 0.46 - 0.1 * p["skin_light"], 0.72 + 0.24 * p["skin_light"])
        self.hair = _hsv(0.07 + 0.04 * p["hair_hue"], 0.45 + 0.3 * p["hair_hue"].abs(), 0.40 + 0.34 * p["hair_light"])
        self.iris = _hsv(0.33 + 0.27 * p["iris_hue"], 0.55 * one, 0.5 * one)
        self.shirt = _hsv(0.5 + 0.5 * p["shirt_hue"], 0.6 * one, 0.5 + 0.3 * p["shirt_light"])
        tint = torch.stack([one, 0.50 + 0.12 * p["lip_hue"], 0.58 + 0.1 * p["lip_hue"]], 1)
        self.lips = self.skin * tint

    def _ellipsoid(self, origin: list[Tensor], centre: list, radii: list) -> tuple[Tensor, list[Tensor], Tensor]:
        """Coverage, head coordinates of the hit point and shading of an ellipsoid, for every pixel's ray."""
        inverse = [1 / (radius * radius) for radius in radii]
        to_origin = [origin[i] - centre[i] for i in range(3)]
        a = _dot(self.ray, self.ray, inverse)
        b = _dot(to_origin, self.ray, inverse)
        c = _dot(to_origin, to_origin, inverse)
        miss = c - b * b / a  # 1 on the silhouette
        cover = torch.sigmoid((1 - miss.clamp_min(1e-6).sqrt()) * radii[0] / self.edge)
        along = (-b + ((1 - miss) * a).clamp_min(1e-6).sqrt()) / a
        hit = [to_origin[i] + along * self.ray[i] for i in range(3)]
        normal = [hit[i] * inverse[i] for i in range(3)]
        norm = torch.rsqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2 + 1e-8)
        lit = _dot([_dot(self.rotation[j], normal) for j in range(3)], self.light) * norm
        shade = self.ambient + (1 - self.ambient) * lit.clamp_min(0)
        return cover, [hit[i] + centre[i] for i in range(3)], shade

    def draw(self) -> Tensor:
        image = self._body(self._background())
        image = self._head(image)
        image = self._nose(image)
        return image.clamp(0, 1) * 2 - 1

    def _background(self) -> Tensor:
        p = self.p
        colour = torch.stack([0.5 + 0.4 * p["back_red"], 0.5 + 0.4 * p["back_green"], 0.5 + 0.4 * p["back_blue"]], 1)
        slope = 1 + 0.25 * p["back_slope"] * self.row + 0 * self.col
        return colour * slope.unsqueeze(1)

    def _body(self, image: Tensor) -> Tensor:
        """Shoulders, the hair behind the head, neck, ears."""
        p, sig = self.p, torch.sigmoid
        x, y = (self.col - self.shift_x * 0.6) / 0.85, (self.row - 1.05 - self.shift_y * 0.5) / 0.42
        image = _mix(image, self.shirt, sig((1 - (x * x + y * y + 1e-6).sqrt()) * 0.4 / self.pixel))
        longer = (p["hair_length"] + 0.5).clamp_min(0)
        cover, _, shade = self._ellipsoid(
            self.origin, [0, -0.12 + 0.25 * longer, -0.22], [self.face_w * 1.13, 1.02 * self.face_h + 0.3 * longer, 0.8]
        )
        image = _mix(image, _shade(self.hair, shade * 0.75), cover)
        neck_x = self.col - self.shift_x + 0.3 * self.rotation[1][0]
        neck = sig((0.30 - neck_x.abs()) / self.pixel * 1.5) * sig((self.row - self.shift_y - 0.25) / self.pixel)
        image = _mix(image, self.skin * 0.62, neck * sig((self.shift_y + 0.95 - self.row) / self.pixel * 0.5))
        one = torch.ones_like(self.face_w)
        for side in (-1, 1):
            cover, _, shade = self._ellipsoid(
                self.origin, [side * self.face_w * 0.97, 0.02, -0.08], [0.11 * one, 0.2 * one, 0.13 * one]
            )
            image = _mix(image, _shade(self.skin, shade * 0.9), cover)
        return image

    def _head(self, image: Tensor) -> Tensor:
        p = self.p
        ox, oy, oz = self.origin
        oy = torch.where(oy > 0.15, 0.15 + (oy - 0.15) / (1 + 0.17 * self.jaw), oy)  # the jaw lengthens the face
        narrow = 0.22 + 0.15 * p["taper"]
        ox = ox * (1 + narrow * oy.clamp(0, 1.2))
        one = torch.ones_like(self.face_w)
        cover, (x, y, z), shade = self._ellipsoid([ox, oy, oz], [0, 0, 0], [self.face_w, self.face_h, FACE_DEPTH * one])
        x = x / (1 + narrow * y.clamp(0, 1.2))
        front = torch.sigmoid((z - 0.12) / 0.05)
        face = self._skin(_shade(self.skin, shade), x, y)
        face = self._eyes(face, x, y, shade, front)
        face = self._mouth(face, x, y, shade, front)
        face = self._hair(face, x, y, shade, front)
        return _mix(image, face, cover)

    def _skin(self, face: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Beard, cheeks, folds beside the mouth, lines of the forehead."""
        p, sig, across = self.p, torch.sigmoid, x.abs()
        beard = p["beard"].clamp_min(0) * sig((y - 0.28) / 0.06) * sig((across * 0.9 + y - 0.55) / 0.07)
        face = _mix(face, face * self.hair * 1.1, beard * 0.85)
        smile, mouth_y = p["mouth_corner"].clamp_min(0), 0.50 + 0.03 * p["mouth_height"]
        cheek = torch.exp(-(((across - 0.40) / 0.13) ** 2 + ((y - 0.22) / 0.11) ** 2))
        face = _shade(face, 1 + 0.22 * cheek * smile)
        fold = _bump((across - 0.40 - 0.35 * (y - 0.32)) / 0.03)
        fold = fold * sig((y - 0.2) / 0.04) * sig((mouth_y + 0.02 - y) / 0.04)
        face = _shade(face, 1 - 0.35 * fold * smile - 0.12 * fold)
        frown = _bump((across - 0.05) / 0.02) * _bump((y + 0.30) / 0.10)
        face = _shade(face, 1 - 0.55 * frown * p["furrow"].clamp_min(0))
        lines = (_bump((y + 0.58) / 0.018) + _bump((y + 0.66) / 0.018)) * sig((0.3 - across) / 0.05)
        return _shade(face, 1 - 0.3 * lines * p["brow_raise"].clamp_min(0))

    def _eyes(self, face: Tensor, x: Tensor, y: Tensor, shade: Tensor, front: Tensor) -> Tensor:
        """Sockets, eyeballs between the lids, lash line, brows."""
        p, sig, across = self.p, torch.sigmoid, x.abs()
        raise_, furrow, lid, blink = p["brow_raise"], p["furrow"], p["lid"], p["blink"]
        centre_x, centre_y = 0.33 * (1 + 0.13 * p["eye_spacing"]), -0.10 + 0.03 * p["eye_height"]
        width = 0.225 * (1 + 0.08 * p["eye_size"])
        u, down = (across - centre_x) / width, y - centre_y
        arc = 1 - u * u
        # The upper lid blinks, the lower one tightens: each is legible whatever the other does.
        top, lower = -0.66 * width * arc, 0.48 * width * (1 - 0.6 * lid) * arc
        upper = top + (lower - top) * (1.08 * blink)
        face = _shade(face, 1 - 0.18 * torch.exp(-(u * u * 0.8 + (down / width * 1.1) ** 2)))
        inside = sig((1 - u.abs()) * width / self.edge) * front
        open_ = sig(torch.minimum(down - upper, lower - down) / self.edge) * inside
        iris_x = centre_x * torch.sign(x) + 0.42 * width * p["gaze_x"]
        iris_y = centre_y + 0.34 * width * p["gaze_y"]
        radius = 0.52 * width

        def disc(dx: Tensor, dy: Tensor, r: Tensor) -> Tensor:
            return sig((r - (dx * dx + dy * dy + 1e-6).sqrt()) / self.edge)

        dx, dy = x - iris_x, y - iris_y
        ball = (EYE_WHITE * (0.55 + 0.45 * shade)).unsqueeze(1).expand_as(face)
        ball = _mix(ball, self.iris, disc(dx, dy, radius))
        ball = _mix(ball, 0.04, disc(dx, dy, 0.5 * radius))
        ball = _mix(ball, 1.0, disc(dx - 0.4 * radius, dy + 0.4 * radius, 0.22 * radius))
        eyelid = sig(torch.minimum(down - top, torch.minimum(upper, lower) - down) / self.edge) * inside
        face = _mix(face, _shade(self.skin * 0.8, shade), eyelid)
        face = _mix(face, ball, open_)
        bag = _bump((down - 0.48 * width * (1 - 0.6 * lid) * (1.1 - 0.5 * u * u) - 0.045) / 0.02)
        face = _shade(face, 1 - (0.22 + 0.22 * lid) * bag * sig((0.9 - u.abs()) * width / self.edge) * front)
        lash = _bump((down - upper) / 0.022) * sig((1.05 - u.abs()) * width / self.edge) * front
        face = _shade(face, 1 - 0.8 * lash)
        along = (across - centre_x + 0.05 * furrow) / (width * 1.15)
        brow_y = centre_y - 0.26 - 0.12 * raise_ + 0.03 * furrow
        brow_y = brow_y + (0.05 + 0.02 * p["brow_arch"]) * along * along - furrow * 0.10 * along
        thick = 0.03 * (1 + 0.3 * p["brow_thickness"]) * (1.15 - 0.4 * along)
        brow = sig((thick - (y - brow_y).abs()) / self.edge) * sig((1 - along.abs()) * width / self.edge) * front
        return _mix(face, self.hair * 0.6, brow * 0.9)

    def _mouth(self, face: Tensor, x: Tensor, y: Tensor, shade: Tensor, front: Tensor) -> Tensor:
        """Lips, and between them the dark of the mouth, tongue and teeth."""
        p, sig = self.p, torch.sigmoid
        corner, pucker = p["mouth_corner"], p["pucker"]
        # People differ in width by far less than speech stretches it, else no picture tells one from the other.
        width = 0.31 * (1 + 0.05 * p["mouth_width"]) * (1 + 0.40 * p["lip_width"] + 0.06 * corner) * (1 - 0.30 * pucker)
        u = x / width
        arc = (1 - u * u).clamp_min(0)
        full = (arc + 1e-4).sqrt()
        gap = 0.42 * self.jaw.clamp_min(0)
        middle = 0.50 + 0.03 * p["mouth_height"] + (0.075 - 0.19 * u * u) * corner
        inner_top, inner_low = middle - 0.22 * gap * arc, middle + 0.62 * gap * arc
        lip = 0.072 * (1 + 0.2 * p["lip_thickness"]) * (1 + 0.9 * pucker)
        inside = sig((1 - u.abs()) * width / self.edge) * front
        dimple = _bump((x.abs() - width - 0.045) / 0.02) * _bump((y - middle) / 0.07)
        face = _shade(face, 1 - 0.35 * dimple * (p["lip_width"] - 0.2).clamp_min(0) * front)
        outer = torch.minimum(y - (inner_top - lip * full), (inner_low + 1.25 * lip * full) - y)
        face = _mix(face, _shade(self.lips, shade), sig(outer / self.edge) * inside)
        face = _shade(face, 1 - 0.55 * _bump((y - 0.5 * (inner_top + inner_low)) / 0.016) * inside)
        cavity = face.new_tensor([0.22, 0.05, 0.06]).view(1, 3, 1, 1).expand_as(face)
        tongue = face.new_tensor([0.62, 0.25, 0.27]).view(1, 3, 1, 1)
        teeth = face.new_tensor([0.92, 0.90, 0.85]).view(1, 3, 1, 1)
        cavity = _mix(cavity, tongue, sig((y - (inner_low - 0.30 * gap)) / self.edge) * 0.8)
        teeth_low = inner_top + 0.075 * (1 + 0.3 * corner - 0.7 * pucker)
        cavity = _mix(cavity, teeth, sig((teeth_low - y) / self.edge))
        hole = torch.minimum(y - inner_top, inner_low - y) - 0.004
        return _mix(face, cavity, sig(hole / self.edge) * inside)

    def _hair(self, face: Tensor, x: Tensor, y: Tensor, shade: Tensor, front: Tensor) -> Tensor:
        """The fringe above the forehead and the strands beside the face."""
        p, sig = self.p, torch.sigmoid
        line_y = -0.68 + 0.10 * p["hairline"] + 0.05 * torch.sin(x * 4 + p["hair_hue"] * 3)
        length_y = 0.05 + 0.35 * p["hair_length"]
        side = sig((x.abs() - (self.face_w * 0.90 - 0.02)) / self.edge) * sig((length_y - y) / 0.03)
        cover = 1 - (1 - sig((line_y - y) / self.edge)) * (1 - side)
        cover = 1 - (1 - cover) * (front + (1 - front) * sig((y - length_y) / 0.05) * 0.5).clamp(0, 1)
        strands = shade * 1.05 * (1 + 0.12 * torch.sin(x * 22))
        return _mix(face, _shade(self.hair, strands), cover)

    def _nose(self, image: Tensor) -> Tensor:
        p = self.p
        width, length = 0.095 * (1 + 0.3 * p["nose_width"]), 0.17 * (1 + 0.12 * p["nose_length"])
        centre_y = 0.16 + 0.04 * p["nose_length"]
        cover, (x, y, _), shade = self._ellipsoid(
            self.origin, [0, centre_y, FACE_DEPTH * 0.93], [width, length, 0.20 + 0 * width]
        )
        image = _mix(image, _shade(self.skin, shade * 1.06), cover * 0.85)
        nostril = torch.exp(-(((x.abs() - 0.5 * width) / 0.03) ** 2 + ((y - centre_y - 0.75 * length) / 0.03) ** 2))
        return _shade(image, 1 - 0.5 * nostril * cover)
