"""What a notebook may have switched in torch neither breaks anything here nor sticks to it."""

import subprocess
import sys

import pytest
import torch

from intuitive.common.decoder import Decoder, DecoderConfig, sample
from intuitive.common.smollm import load_smollm2
from intuitive.common.training import train
from intuitive.common.weights import load_weights, save_weights


def test_fault_e_a_cache_made_in_inference_mode_serves_outside():
    decoder, tokens = Decoder(DecoderConfig()), torch.arange(6)[None]
    with torch.inference_mode():
        cache = decoder.make_cache(1, 6)
        decoder(tokens[:, :2], cache=cache)
        cache.reorder(torch.tensor([0]))
    with torch.no_grad():
        rest = decoder(tokens[:, 2:], cache=cache)
        torch.testing.assert_close(rest, decoder(tokens)[:, 2:])


@pytest.mark.model
def test_fault_e_a_model_loaded_in_inference_mode_can_be_differentiated():
    with torch.inference_mode():
        model = load_smollm2(dtype=torch.float16)  # nobody else's
    assert not any(weight.is_inference() for weight in model.decoder.parameters())


def test_fault_e_weights_read_in_inference_mode_are_ordinary(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"w": torch.ones(2)}, {})
    with torch.inference_mode():
        weights, _ = load_weights(tmp_path / "w.safetensors")
    assert not weights["w"].is_inference()


@pytest.mark.parametrize("switch", [torch.no_grad, torch.inference_mode])
def test_fault_f_training_goes_on_with_gradients_off(switch):
    w = torch.ones(1, requires_grad=True)

    def gradients(step):
        loss = w.square().sum()
        loss.backward()
        return {"loss": loss.item()}

    with switch():
        losses = train(gradients, torch.optim.SGD([w], lr=0.1), n_steps=3)["loss"]
    assert losses[2] < losses[0]


def test_fault_p_tied_weights_are_saved_whole(tmp_path):
    decoder = Decoder(DecoderConfig())
    save_weights(tmp_path / "w.safetensors", decoder.state_dict(), {})
    weights, _ = load_weights(tmp_path / "w.safetensors")
    assert torch.equal(weights["head.weight"], decoder.embedding.weight)
    Decoder(DecoderConfig()).load_state_dict(weights)


@pytest.mark.parametrize("temperature", [1e-7, 1e-40, 1e-300])
def test_fault_r_a_vanishing_temperature_is_greedy(temperature):
    logits = torch.tensor([[1.0, 3.0, 2.0], [300.0, -300.0, -torch.inf]])
    assert sample(logits, temperature=temperature).tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [float("nan"), float("inf"), -1.0])
def test_fault_r_no_number_is_no_temperature(temperature):
    with pytest.raises(ValueError, match="must be a finite number"):
        sample(torch.zeros(1, 3), temperature=temperature)


def test_core_1_overlapping_and_nested_blocks_give_the_threads_back():
    code = """
import threading, torch
from intuitive.common.training import one_thread
torch.set_num_threads(2)
first_in, second_in, first_out = (threading.Event() for _ in range(3))
seen = []
def first():
    with one_thread():
        with one_thread():
            bystander = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            bystander.start(); bystander.join()
            first_in.set(); second_in.wait()
        seen.append(torch.get_num_threads())
    seen.append(torch.get_num_threads())
    first_out.set()
def second():
    first_in.wait()
    with one_thread():
        second_in.set(); first_out.wait()
        seen.append(torch.get_num_threads())
    seen.append(torch.get_num_threads())
threads = [threading.Thread(target=t) for t in (first, second)]
[t.start() for t in threads]; [t.join() for t in threads]
new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
new.start(); new.join()
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[2, 1, 2, 1, 2, 2]", done.stderr


@pytest.mark.parametrize("flags", [[], ["-OO"]], ids=["plain", "optimised"])
@pytest.mark.parametrize("module", ["intuitive", "intuitive.cli"])
def test_fault_v_the_command_runs_as_a_module(module, flags):
    command = [sys.executable, *flags, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "lab|doctor|model" in done.stdout, done.stderr
