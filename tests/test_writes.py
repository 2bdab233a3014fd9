"""Networks that write into parts of tensors, recurrent ones, and operations that are written as others: by epsilon,
against the input times the gradient of the same network written out, with what LRP holds fixed detached."""

import copy

import pytest
import torch
from conftest import make_faces
from test_tape import BOTH, CONV, Written
from torch import nn
from torch.nn import functional as F

from fcx.attribution import attribute
from fcx.attribution.lrp_engine import Engine
from fcx.attribution.lrp_rules import CONVOLUTION_RULES, Rule
from fcx.core.errors import InputError
from fcx.networks.inputs import as_network


def held(y, x):
    """Return y, of which y / x does not change."""
    return x * torch.where(x == 0, 0, y / x).detach()


def in_part(net, x):
    whole = net.conv(x).clone()
    whole[:, :3].mul_(2)
    whole[:, 1:2, ::2] += whole[:, 2:3, ::2]
    return net.head(whole.relu().mean((2, 3)))


def by_columns(net, x):
    y = net.head(net.conv(x).relu().mean((2, 3)))
    out = torch.ones(len(x), 2, dtype=y.dtype)
    out[:, 0] = y[:, 1]
    out[:, 1].mul_(0.5).add_(y[:, 0])
    return out


def view_of_a_view(net, x):
    y = net.conv(x).clone()
    first, second = y[:, :2], y[:, 2:]
    first.neg_()
    y.mul_(2)  # both see that
    return net.head(torch.cat([first + second, second], 1).relu().mean((2, 3)))


def with_a_token(net, x):
    tokens = torch.cat([net.head.weight[:, None].mean(0, keepdim=True).expand(len(x), -1, -1) + 1,
                        net.conv(x).flatten(2).mT], 1)  # fmt: skip
    return net.head(tokens.relu().mean(1))


def lstm(net, x):
    return net.last(net.lstm(x[:, 0])[0][:, -1])


def lstm_by_hand(net, x):
    h = c = x.new_zeros(len(x), 4)
    weight, again, bias, more = net.lstm.parameters()
    for row in x[:, 0].unbind(1):
        i, f, g, o = (row @ weight.T + bias + h @ again.T + more).chunk(4, 1)
        c = f.sigmoid().detach() * c + i.sigmoid().detach() * held(g.tanh(), g)
        h = o.sigmoid().detach() * held(c.tanh(), c)
    return net.last(h)


def gru(net, x):
    return net.last(net.gru(x[:, 0].transpose(0, 1))[0][-1])  # time first, as many steps as there are samples or more


def gru_by_hand(net, x):
    h = x.new_zeros(len(x), 4)
    weight, again, bias, more = net.gru.parameters()
    for step, row in enumerate(x[:, 0].unbind(1)):
        (r, z, n), (hr, hz, hn) = (row @ weight.T + bias).chunk(3, 1), (h @ again.T + more).chunk(3, 1)
        reset = (r + hr).sigmoid()
        reset = reset.detach() if step else held(reset - 0.5, r + hr)  # of a constant at first; the half is a bias
        n = n + reset * hn + (0 if step else 0.5 * hn)
        h = held(n.tanh(), n) + (z + hz).sigmoid().detach() * (h - held(n.tanh(), n))
    return net.last(h)


def rnn(net, x):
    return net.last(net.rnn(x[:, 0])[0].mean(1))


def rnn_by_hand(net, x):
    h, total = x.new_zeros(len(x), 4), 0
    weight, again, bias, more = net.rnn.parameters()
    for row in x[:, 0].unbind(1):
        z = row @ weight.T + bias + h @ again.T + more
        h = held(z.tanh(), z)
        total = total + h
    return net.last(total / x.shape[2])


def statistics(net, x):
    y = net.conv(x).flatten(2)
    return net.last(y.std(2) + y.norm(dim=2) + y.topk(3, 2)[0].mean(2) + y.sort(2)[0][:, :, -1] + y.max(2)[0])


def powers(net, x):
    y = net.conv(x).relu().mean((2, 3))
    return net.head(y**3 + y.sqrt())


def powers_held(net, x):
    y = net.conv(x).relu().mean((2, 3))
    return net.head(held(y**3, y) + held(y.sqrt(), y))


def formulas(net, x):
    y = net.conv(x)
    a, b = torch.lerp(y, y.relu(), 0.3), F.glu(y, 1)
    return net.head(torch.addcmul(a, net.head.weight.mean(), y).mean((2, 3))) + net.narrow(b.mean((2, 3)))


def formulas_by_hand(net, x):
    y = net.conv(x)
    a, b = 0.7 * y + 0.3 * y.relu(), y[:, :2] * y[:, 2:].sigmoid().detach()
    return net.head((a + net.head.weight.mean() * y).mean((2, 3))) + net.narrow(b.mean((2, 3)))


def instances(net, x):
    return net.head(F.instance_norm(net.conv(x)).relu().mean((2, 3)))


def instances_by_hand(net, x):
    y = net.conv(x)
    y = y - y.mean((2, 3), keepdim=True)
    return net.head((y / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt().detach()).relu().mean((2, 3)))


LINEAR = {"in part": in_part, "by columns": by_columns, "view of a view": view_of_a_view, "a token": with_a_token,
          "circular pixels": lambda net, x: net.head(net.circular(x).relu().mean((2, 3))),
          "circular inside": lambda net, x: net.head(F.pad(net.conv(x), (1, 2, 0, 1), "circular").relu().amax((2, 3))),
          "statistics": statistics}  # fmt: skip
WRITTEN_OUT = {name: (forward, forward) for name, forward in LINEAR.items()} | {
    "lstm": (lstm, lstm_by_hand), "gru": (gru, gru_by_hand), "rnn": (rnn, rnn_by_hand), "powers": (powers, powers_held),
    "formulas": (formulas, formulas_by_hand), "instances": (instances, instances_by_hand),
}  # fmt: skip


def network(forward):
    torch.manual_seed(0)
    layers = {"conv": CONV(1, 4, 3), "circular": CONV(1, 4, 3, padding=1, padding_mode="circular")}
    layers |= {"lstm": nn.LSTM(8, 4, batch_first=True), "gru": nn.GRU(8, 4), "rnn": nn.RNN(8, 4, batch_first=True)}
    layers |= {"head": nn.Linear(4, 2), "last": nn.Linear(4, 2), "narrow": nn.Linear(2, 2)}
    return Written(forward, **layers).requires_grad_(False)


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_epsilon_is_the_input_times_the_gradient_of_what_is_written_out(name):
    forward, by_hand = WRITTEN_OUT[name]
    net, images = network(forward), torch.rand(3, 1, 8, 8)
    wide, pixels = copy.deepcopy(net).double(), images.double().requires_grad_()
    outputs = by_hand(wide, pixels)
    slopes = torch.stack([torch.autograd.grad(output.sum(), pixels, retain_graph=True)[0] for output in outputs.T])
    expected = (slopes * pixels.detach())[:, :, 0]
    for engine, some, tolerance in ((Engine(wide), images.double(), 1e-9), (Engine(net), images, 1e-4)):
        found = engine.relevance(some, BOTH.to(some), Rule("epsilon", "rule"))
        torch.testing.assert_close(found.value, outputs.detach().T, rtol=tolerance, atol=tolerance)
        scale = float(expected.abs().max())
        torch.testing.assert_close(found.maps.double(), expected, rtol=tolerance, atol=tolerance * scale)
    for rule in (*(Rule(convolution) for convolution in CONVOLUTION_RULES), Rule("gamma", "zbox")):
        found = Engine(wide).relevance(images.double(), BOTH, rule)
        mass = found.maps.abs().sum((-1, -2)) + found.absorbed.abs().sum(0)
        assert ((found.maps.sum((-1, -2)) + found.absorbed.sum(0) - found.value).abs() <= 1e-11 * mass).all(), rule


def without_gradients(net, x):
    with torch.no_grad():
        y = net.conv(x).relu()
    return net.head(y.mean((2, 3)))


def in_place(net, x):
    y = net.conv(x).relu_()
    z = y * 1
    z.sigmoid_().mul_(y)
    return net.head(z.mean((2, 3)))


@pytest.mark.parametrize(
    ("forward", "plain"),
    [
        (without_gradients, lambda net, x: net.head(net.conv(x).relu().mean((2, 3)))),
        (in_place, lambda net, x: net.head((lambda y: y.sigmoid() * y)(net.conv(x).relu()).mean((2, 3)))),
    ],
)
def test_gradients_go_where_autograd_does_not(forward, plain):
    faces, options = make_faces(2, size=16), {"methods": "gradient,gradcam", "layer": "conv", "dtype": "float64"}
    found, expected = (attribute({"net": network(f)}, faces, **options)["attribution"] for f in (forward, plain))
    torch.testing.assert_close(torch.tensor(found.values), torch.tensor(expected.values), rtol=1e-9, atol=1e-15)
    assert abs(found).max() > 0


class Noisy(nn.Module):
    def forward(self, x):
        return x.mean((1, 2, 3))[:, None] + torch.rand(len(x), 2)


@pytest.mark.parametrize(
    "net",
    [
        Noisy(),
        nn.Sequential(CONV(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.Linear(784, 2)),
        Written(lambda net, x: net.head(x.flatten(1) - x.flatten(1).mean(0)), head=nn.Linear(256, 2)),
    ],
)
def test_what_depends_on_other_faces_or_on_chance_is_refused(net):
    with pytest.raises(InputError, match="beside another one, or from call to call"):
        attribute({"net": net}, make_faces(2, size=16), "gradient")


def test_one_output_may_be_one_number_a_face():
    faces, net = make_faces(2), nn.Sequential(nn.Flatten(), nn.Linear(4096, 1), nn.Flatten(0))
    flat, columns = (as_network(one, outputs=["smile"]) for one in (net, net[:2]))
    found = attribute({"flat": flat, "columns": columns}, faces, "lrp_epsilon")
    assert (found["attribution"][0] == found["attribution"][1]).all()
    with pytest.raises(InputError, match=r"not \(sample,\)"):
        attribute({"net": as_network(net, outputs=["smile", "frown"])}, faces, "gradient")
