"""The trained network written for export: one graph for whole recordings, one for streams.

Both compute what NeMo's encoder computes with its `chunked_limited` attention, with less work:
attention is done chunk by chunk instead of under a mask (whole recordings), keys and values are
cached instead of the layers' inputs (streams), and the projected positions are constants.

A stream's first chunk is a chunk like all others: its features are preceded by `FIRST_PADDING`
frames of anything, and every stage of the subsampling silences what they become.
So stepping gives exactly what the whole recording gives.
"""

from typing import Any

import torch
from recipes.embedded.model import LEFT_CONTEXT, LOOK_AHEADS
from torch import Tensor, nn
from torch.nn import functional

LONGEST_CHUNK = max(LOOK_AHEADS) + 1
"""Encoder frames in the longest chunk."""
OVERLAP = 9
"""Feature frames that a step repeats from the one before."""
DROP = 2
"""Encoder frames that these give and that a step therefore leaves out."""
FIRST_PADDING = 16
"""Frames of zeros before a stream's first feature frame."""
HIDDEN = -1e4
"""Attention score of what must not be seen."""


def frames_before(count: int, lengths: Tensor) -> Tensor:
    """1.0 where the frame's index is below the row's length: [batch, count]."""
    return (torch.arange(count).unsqueeze(0) < lengths.unsqueeze(1)).float()


class Subsampling(nn.Module):
    """Eightfold subsampling by causal convolutions; padding is silenced before each stage."""

    def __init__(self, pre_encode: Any) -> None:  # NeMo is untyped
        super().__init__()
        layers = list(pre_encode.conv)
        self.stages = nn.ModuleList([layers[0], layers[2], layers[5]])
        self.mixers = nn.ModuleList([nn.Identity(), layers[3], layers[6]])
        self.out = pre_encode.out

    def forward(self, features: Tensor, lengths: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """[batch, 80, frames] to [batch, frames / 8 + 1, width]; `before` [batch] frames precede the beginning."""
        x = features.transpose(1, 2).unsqueeze(1)
        for stage, mixer in zip(self.stages, self.mixers, strict=True):
            heard = frames_before(x.shape[2], lengths)
            if before is not None:
                heard = heard - frames_before(x.shape[2], before)
                before = torch.div(before, 2, rounding_mode="floor")
            x = functional.relu(mixer(stage(x * heard.unsqueeze(1).unsqueeze(3))))
            lengths = torch.div(lengths, 2, rounding_mode="floor") + 1
        return self.out(x.transpose(1, 2).flatten(2)), lengths


class Attention(nn.Module):
    """Relative-position attention of chunks over themselves and the frames before them."""

    def __init__(self, attention: Any, positions: Tensor) -> None:  # NeMo is untyped
        super().__init__()
        self.inner = attention
        self.heads, self.width = attention.h, attention.d_k
        with torch.no_grad():
            places = attention.linear_pos(positions).view(-1, self.heads, self.width)
            bias = attention.linear_q.bias.view(self.heads, self.width)
            scale = self.width**-0.5
            weight = attention.linear_q.weight
            self.register_buffer("places", places.permute(1, 2, 0).contiguous())
            self.register_buffer("query_weight", (weight * scale).t().contiguous())
            self.register_buffer("content_bias", ((bias + attention.pos_bias_u) * scale).flatten())
            self.register_buffer("place_bias", ((bias + attention.pos_bias_v) * scale).flatten())

    def split(self, x: Tensor) -> Tensor:
        """[..., frames, heads * width] to [..., heads, frames, width]."""
        return x.unflatten(-1, (self.heads, self.width)).transpose(-3, -2)

    def keys_and_values(self, x: Tensor) -> Tensor:
        """Keys and values side by side: [..., frames, 2 * heads * width]."""
        return torch.cat([self.inner.linear_k(x), self.inner.linear_v(x)], dim=-1)

    def forward(self, x: Tensor, seen: Tensor, hidden: Tensor) -> Tensor:
        """Chunks `x` [..., chunk, D] look at `seen` [..., 70 + chunk, 2 D]; `hidden` [..., 1, 1, 70 + chunk]."""
        query = torch.matmul(x, self.query_weight)
        key, value = seen.chunk(2, dim=-1)
        content = torch.matmul(self.split(query + self.content_bias), self.split(key).transpose(-2, -1))
        chunk = x.shape[-2]
        places = self.places[:, :, LONGEST_CHUNK - chunk : LONGEST_CHUNK + LEFT_CONTEXT + chunk - 1]
        place = self.shift(torch.matmul(self.split(query + self.place_bias), places), chunk)
        weights = torch.softmax(content + place + hidden, dim=-1)
        mixed = torch.matmul(weights, self.split(value)).transpose(-3, -2).flatten(-2)
        return self.inner.linear_out(mixed)

    @staticmethod
    def shift(scores: Tensor, chunk: int) -> Tensor:
        """From scores by distance [..., chunk, 70 + 2 chunk - 1] to scores by key [..., chunk, 70 + chunk]."""
        span = LEFT_CONTEXT + 2 * chunk - 1
        flat = functional.pad(scores, (0, 1)).flatten(-2)[..., chunk - 1 : -1]
        return flat.unflatten(-1, (chunk, span))[..., : LEFT_CONTEXT + chunk]


class Block(nn.Module):
    """One Conformer layer, shared by both graphs."""

    def __init__(self, layer: Any, positions: Tensor) -> None:  # NeMo is untyped
        super().__init__()
        self.layer = layer
        self.attention = Attention(layer.self_attn, positions)

    def convolve(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Causal convolution of [batch, frames, D] after `past` [batch, D, 8]; also the next past."""
        conv = self.layer.conv
        x = functional.linear(x, conv.pointwise_conv1.weight.squeeze(2), conv.pointwise_conv1.bias)
        x = torch.cat([past, functional.glu(x, dim=-1).transpose(1, 2)], dim=2)
        inner = conv.depthwise_conv
        y = functional.conv1d(x, inner.weight, inner.bias, groups=inner.groups).transpose(1, 2)
        y = functional.silu(conv.batch_norm(y))
        return functional.linear(y, conv.pointwise_conv2.weight.squeeze(2), conv.pointwise_conv2.bias), x[:, :, -8:]

    def before(self, x: Tensor) -> Tensor:
        """First half feed-forward."""
        return x + 0.5 * self.layer.feed_forward1(self.layer.norm_feed_forward1(x))

    def after(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Convolution, second half feed-forward, norm."""
        convolved, past = self.convolve(self.layer.norm_conv(x), past)
        x = x + convolved
        x = x + 0.5 * self.layer.feed_forward2(self.layer.norm_feed_forward2(x))
        return self.layer.norm_out(x), past


class Network(nn.Module):
    """What both graphs share: subsampling, blocks, output layer."""

    def __init__(self, model: Any) -> None:  # NeMo is untyped
        super().__init__()
        encoder = model.encoder
        self.subsampling = Subsampling(encoder.pre_encode)
        centre = encoder.pos_enc.pe.shape[1] // 2
        table = encoder.pos_enc.pe[0, centre - LEFT_CONTEXT - LONGEST_CHUNK + 1 : centre + LONGEST_CHUNK]
        self.blocks = nn.ModuleList([Block(layer, table) for layer in encoder.layers])
        self.output = model.decoder.decoder_layers[0]
        self.width = encoder.d_model

    def logprobs(self, x: Tensor) -> Tensor:
        """[batch, frames, D] to log-probabilities [batch, frames, sub-words + 1]."""
        return functional.log_softmax(functional.linear(x, self.output.weight.squeeze(2), self.output.bias), dim=-1)


class Offline(Network):
    """Whole recordings, at the longest look-ahead."""

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mels [batch, 80, frames] and lengths to log-probabilities and their lengths."""
        x, lengths = self.subsampling(audio_signal, length, None)
        frames = x.shape[1]
        chunks = (frames + LONGEST_CHUNK - 1) // LONGEST_CHUNK
        x = functional.pad(x, (0, 0, 0, chunks * LONGEST_CHUNK - frames))
        places = torch.arange(chunks).unsqueeze(1) * LONGEST_CHUNK + torch.arange(LEFT_CONTEXT + LONGEST_CHUNK)
        places = places - LEFT_CONTEXT
        visible = (places.unsqueeze(0) >= 0) & (places.unsqueeze(0) < lengths.view(-1, 1, 1))
        hidden = ((~visible).float() * HIDDEN).unsqueeze(2).unsqueeze(2)
        past = x.new_zeros(x.shape[0], self.width, 8)
        for block in self.blocks:
            x = block.before(x)
            y = block.layer.norm_self_att(x)
            seen = self.windows(block.attention.keys_and_values(y), chunks)
            y = block.attention(y.unflatten(1, (chunks, LONGEST_CHUNK)), seen, hidden)
            x, _ = block.after(x + y.flatten(1, 2), past)
        return self.logprobs(x[:, :frames]), lengths

    @staticmethod
    def windows(x: Tensor, chunks: int) -> Tensor:
        """[batch, chunks * 14, D] to what each chunk sees: [batch, chunks, 84, D]."""
        x = functional.pad(x, (0, 0, LEFT_CONTEXT, 0)).unflatten(1, (-1, LONGEST_CHUNK))
        reach = LEFT_CONTEXT // LONGEST_CHUNK + 1
        return torch.cat([x[:, k : k + chunks] for k in range(reach)], dim=2)


class Streaming(Network):
    """One chunk of a stream, of any of the look-aheads."""

    def forward(
        self,
        audio_signal: Tensor,
        length: Tensor,
        cache_last_channel: Tensor,
        cache_last_time: Tensor,
        cache_last_channel_len: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Map a chunk's log-mels [batch, 80, 9 + 8 chunk] and the caches to log-probabilities and the next caches.

        `cache_last_channel` [batch, layers, 70, 2 D] has keys and values, `cache_last_time`
        [batch, layers, D, 8] the convolutions' past, `cache_last_channel_len` [batch] the frames seen (at most 70).
        """
        before = (FIRST_PADDING - 8 * cache_last_channel_len).clamp(min=0)
        x, lengths = self.subsampling(audio_signal, length, before)
        x, lengths = x[:, DROP:], (lengths - DROP).clamp(min=0)
        chunk = x.shape[1]
        places = torch.arange(LEFT_CONTEXT + chunk).unsqueeze(0) - LEFT_CONTEXT
        visible = (places >= -cache_last_channel_len.unsqueeze(1)) & (places < lengths.unsqueeze(1))
        hidden = ((~visible).float() * HIDDEN).unsqueeze(1).unsqueeze(1)
        channels, times = [], []
        for number, block in enumerate(self.blocks):
            x = block.before(x)
            y = block.layer.norm_self_att(x)
            seen = torch.cat([cache_last_channel[:, number], block.attention.keys_and_values(y)], dim=1)
            channels.append(seen[:, -LEFT_CONTEXT:])
            x, past = block.after(x + block.attention(y, seen, hidden), cache_last_time[:, number])
            times.append(past)
        seen_frames = (cache_last_channel_len + chunk).clamp(max=LEFT_CONTEXT)
        return self.logprobs(x), lengths, torch.stack(channels, 1), torch.stack(times, 1), seen_frames
