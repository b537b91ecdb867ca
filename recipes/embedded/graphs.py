"""The trained network written for export: one graph for whole recordings, one for streams.

Both compute what NeMo's encoder computes with its `chunked_limited` attention, with less work:

- attention is done chunk by chunk instead of under a mask (whole recordings),
- keys and values are cached instead of the layers' inputs (streams),
- the projected positions are constants, queries, keys and values of all heads come of one product,
- frames of all recordings of a batch are rows of one matrix wherever they don't look at each other, so that a bias is
  part of its product; of whole recordings, there is no row for what is padding,
- factors and padding lie in weights and convolutions.

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
REACH = LEFT_CONTEXT + LONGEST_CHUNK
"""Encoder frames that such a chunk sees."""
OVERLAP = 9
"""Feature frames that a step repeats from the one before."""
DROP = 2
"""Encoder frames that these give and that a step therefore leaves out."""
FIRST_PADDING = 16
"""Frames of zeros before a stream's first feature frame."""
APART = 14
"""Feature frames from the end of a recording to the next one, so that two frames are silent at each stage."""
PAST = 8
"""Frames that a block's convolution hears before the one it is at."""
HIDDEN = -1e4
"""Attention score of what must not be seen."""


def frames_before(count: int, lengths: Tensor) -> Tensor:
    """1.0 where the frame's index is below the row's length: [batch, count]."""
    return (torch.arange(count).unsqueeze(0) < lengths.unsqueeze(1)).float()


class Padded(torch.autograd.Function):
    """A convolution with its padding inside: ONNX has that for uneven padding, too, PyTorch has not."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        """Convolve x [batch, channels, …] by a weight, plus bias; given are also pads, stride and groups.

        `pads` has those before all axes, then those behind.
        """
        del ctx
        x, weight, bias, pads, stride, groups = given
        sides = len(pads) // 2
        padding = [pads[place] for axis in reversed(range(sides)) for place in (axis, axis + sides)]
        convolve = functional.conv1d if sides == 1 else functional.conv2d
        return convolve(functional.pad(x, padding), weight, bias, stride=stride, groups=groups)

    @staticmethod
    def symbolic(graph: Any, *given: Any) -> Any:
        """Write the node."""
        x, weight, bias, pads, stride, groups = given
        strides = [stride] * (len(pads) // 2)
        sizes = weight.type().sizes()[2:]
        return graph.op("Conv", x, weight, bias, pads_i=pads, strides_i=strides, kernel_shape_i=sizes, group_i=groups)


class Subsampling(nn.Module):
    """Eightfold subsampling by causal convolutions; padding is silenced before each stage."""

    def __init__(self, pre_encode: Any) -> None:  # NeMo is untyped
        super().__init__()
        layers = list(pre_encode.conv)
        self.stages = nn.ModuleList([layers[0], layers[2], layers[5]])
        self.mixers = nn.ModuleList([nn.Identity(), layers[3], layers[6]])
        self.out = pre_encode.out

    def forward(self, features: Tensor, lengths: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, 80, frames] to [batch, frames / 8 + 1, width]; `before` [batch] frames precede the beginning."""
        x = features.transpose(1, 2).unsqueeze(1)
        for number in range(len(self.stages)):
            heard = frames_before(x.shape[2], lengths) - frames_before(x.shape[2], before)
            x = self.halve(number, x * heard.unsqueeze(1).unsqueeze(3))
            lengths, before = halved(lengths), torch.div(before, 2, rounding_mode="floor")
        frames = x.transpose(1, 2).flatten(2)
        return self.out(frames.flatten(0, 1)).reshape(frames.shape[0], frames.shape[1], -1), lengths

    def halve(self, number: int, x: Tensor) -> Tensor:
        """One stage: [batch, channels, frames, bands] to half as many frames and bands, and one."""
        stage, mixer = self.stages[number], self.mixers[number]
        return functional.relu(mixer(Padded.apply(x, stage.weight, stage.bias, [2, 2, 1, 1], 2, stage.groups)))

    def one_after_the_other(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, 80, frames] to the rows [frames, width] of all recordings, and how many each has.

        They lie on one strip, so far apart that none hears another, each beginning at a frame of the encoder.
        """
        sizes = torch.div(lengths + APART + 7, 8, rounding_mode="floor") * 8
        starts = torch.cumsum(sizes, 0) - sizes
        rows = torch.arange(sizes.sum())
        recording = found(rows, starts)
        rows = torch.minimum(rows - starts[recording], lengths[recording] - 1) + recording * features.shape[2]
        x = features.transpose(1, 2).reshape(-1, features.shape[1]).index_select(0, rows).unsqueeze(0).unsqueeze(0)
        for number in range(len(self.stages)):
            rows = torch.arange(x.shape[2])
            recording = found(rows, starts)
            heard = (rows - starts[recording] < lengths[recording]).float()
            x = self.halve(number, x * heard.unsqueeze(1))
            lengths, starts = halved(lengths), torch.div(starts, 2, rounding_mode="floor")
        rows = torch.arange(lengths.sum())
        recording = found(rows, torch.cumsum(lengths, 0) - lengths)
        rows = rows + (starts - torch.cumsum(lengths, 0) + lengths)[recording]
        return self.out(x.squeeze(0).transpose(0, 1).index_select(0, rows).flatten(1)), lengths


def halved(lengths: Tensor) -> Tensor:
    """Frames that a stage makes of so many."""
    return torch.div(lengths, 2, rounding_mode="floor") + 1


def found(rows: Tensor, starts: Tensor) -> Tensor:
    """Which of the stretches that begin at `starts` each row lies in; the last one has no end."""
    return (rows.unsqueeze(1) >= starts.unsqueeze(0)).long().sum(1) - 1


class Attention(nn.Module):
    """Relative-position attention of chunks over themselves and the frames before them.

    Heads come first: a query, key or value has the shape [heads, …, frames, width of a head].
    """

    def __init__(self, attention: Any, positions: Tensor) -> None:  # NeMo is untyped
        super().__init__()
        self.heads, self.width = attention.h, attention.d_k
        self.out = attention.linear_out
        with torch.no_grad():
            places = attention.linear_pos(positions).view(-1, self.heads, self.width)
            query, key, value = attention.linear_q, attention.linear_k, attention.linear_v
            scale = self.width**-0.5
            self.register_buffer("places", places.permute(1, 2, 0).contiguous())
            scaled = query.weight * scale
            self.register_buffer("weight", torch.cat([scaled, scaled, key.weight, value.weight]))
            biases = [(query.bias + bias.flatten()) * scale for bias in (attention.pos_bias_u, attention.pos_bias_v)]
            self.register_buffer("bias", torch.cat([*biases, key.bias, value.bias]))

    def project(self, x: Tensor) -> Tensor:
        """[frames, D] to queries for content, queries for places, keys and values: [frames, 4 heads, width]."""
        return functional.linear(x, self.weight, self.bias).view(-1, 4 * self.heads, self.width)

    def by_place(self, query: Tensor, chunk: int) -> Tensor:
        """Scores of each distance, from the farthest seen to one beyond the farthest ahead: [heads, …, chunk, span]."""
        farthest = LONGEST_CHUNK - chunk
        return torch.matmul(query, self.places[:, :, farthest : farthest + LEFT_CONTEXT + 2 * chunk])

    @staticmethod
    def shift(scores: Tensor, chunk: int) -> Tensor:
        """From scores by distance, flat [a, b, chunk * span], to scores by key [a, b, chunk, 70 + chunk].

        Each row begins a distance later than the next one: read with rows that are one shorter, they stand in line.
        """
        shorter = LEFT_CONTEXT + 2 * chunk - 1
        flat = scores[:, :, chunk - 1 : chunk - 1 + chunk * shorter]
        return flat.reshape(flat.shape[0], flat.shape[1], chunk, shorter)[..., : LEFT_CONTEXT + chunk]

    @staticmethod
    def mix(query: Tensor, key: Tensor, value: Tensor, place: Tensor, hidden: Tensor) -> Tensor:
        """Attend: [a, b, chunk, width], with keys and values [a, b, 70 + chunk, width] and scores of places."""
        scores = torch.matmul(query, key.transpose(-2, -1)) + place + hidden
        return torch.matmul(torch.softmax(scores, dim=-1), value)


class FeedForward(nn.Module):
    """Half a feed-forward layer: its factor is part of the weights."""

    def __init__(self, norm: nn.Module, layer: Any) -> None:  # NeMo is untyped
        super().__init__()
        self.norm, self.first = norm, layer.linear1
        self.register_buffer("weight", 0.5 * layer.linear2.weight.detach())
        self.register_buffer("bias", 0.5 * layer.linear2.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """[frames, D] to [frames, D]."""
        return x + functional.linear(functional.silu(self.first(self.norm(x))), self.weight, self.bias)


class Block(nn.Module):
    """One Conformer layer, shared by both graphs; frames of all recordings are rows [frames, D]."""

    def __init__(self, layer: Any, positions: Tensor) -> None:  # NeMo is untyped
        super().__init__()
        self.layer = layer
        self.first = FeedForward(layer.norm_feed_forward1, layer.feed_forward1)
        self.second = FeedForward(layer.norm_feed_forward2, layer.feed_forward2)
        self.attention = Attention(layer.self_attn, positions)

    def gated(self, x: Tensor) -> Tensor:
        """Prepare what the convolution hears: [frames, D] to [frames, D]."""
        inner = self.layer.conv.pointwise_conv1
        x = functional.linear(self.layer.norm_conv(x), inner.weight.squeeze(2), inner.bias)
        return functional.glu(x, dim=-1)

    def convolve(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Convolve over time, [batch, D, past + frames] to rows [frames, D]; of them only some, if such are chosen."""
        conv = self.layer.conv
        inner = conv.depthwise_conv
        y = Padded.apply(x, inner.weight, inner.bias, [0, 0], 1, inner.groups).transpose(1, 2).reshape(-1, x.shape[1])
        y = functional.silu(conv.batch_norm(y if chosen is None else y.index_select(0, chosen)))
        return functional.linear(y, conv.pointwise_conv2.weight.squeeze(2), conv.pointwise_conv2.bias)

    def after(self, x: Tensor) -> Tensor:
        """Second half feed-forward, norm."""
        return self.layer.norm_out(self.second(x))


class Network(nn.Module):
    """What both graphs share: subsampling, blocks, output layer."""

    def __init__(self, model: Any) -> None:  # NeMo is untyped
        super().__init__()
        encoder = model.encoder
        self.subsampling = Subsampling(encoder.pre_encode)
        centre = encoder.pos_enc.pe.shape[1] // 2
        table = encoder.pos_enc.pe[0, centre - LEFT_CONTEXT - LONGEST_CHUNK + 1 : centre + LONGEST_CHUNK + 1]
        self.blocks = nn.ModuleList([Block(layer, table) for layer in encoder.layers])
        self.output = model.decoder.decoder_layers[0]
        self.width = encoder.d_model

    def logprobs(self, x: Tensor) -> Tensor:
        """Rows [frames, D] to log-probabilities [frames, sub-words + 1]."""
        return functional.log_softmax(functional.linear(x, self.output.weight.squeeze(2), self.output.bias), dim=-1)


class Rows:
    """Where the frames of a batch's recordings lie: row after row, nothing between them, and what looks at what."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths
        self.starts = torch.cumsum(lengths, 0) - lengths
        self.rows = torch.arange(lengths.sum())
        self.recording = found(self.rows, self.starts)
        self.place = self.rows - self.starts[self.recording]
        """The frame's number in its recording."""
        self.chunks = torch.div(lengths + LONGEST_CHUNK - 1, LONGEST_CHUNK, rounding_mode="floor")
        self.first_chunks = torch.cumsum(self.chunks, 0) - self.chunks

    def sight(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of all chunks, flat [chunks * 14]; rows that they see, flat [chunks * 84], and what hides some of these.

        The last is [chunks, 1, 84].
        """
        chunks = torch.arange(self.chunks.sum())
        recording = found(chunks, self.first_chunks)
        first = ((chunks - self.first_chunks[recording]) * LONGEST_CHUNK).unsqueeze(1)
        start, last = self.starts[recording].unsqueeze(1), self.lengths[recording].unsqueeze(1) - 1
        places = first + torch.arange(REACH) - LEFT_CONTEXT
        hidden = ((places < 0) | (places > last)).float() * HIDDEN
        own = start + torch.minimum(first + torch.arange(LONGEST_CHUNK), last)
        seen = start + torch.minimum(places.clamp(min=0), last)
        return own.flatten(), seen.flatten(), hidden.unsqueeze(1)

    def in_chunks(self) -> Tensor:
        """Where each row lies in the chunks [chunks * 14]."""
        return self.first_chunks[self.recording] * LONGEST_CHUNK + self.place

    def apart(self) -> Tensor:
        """Rows with `PAST` rows before each recording: counted from 1, and 0 for these."""
        starts = self.starts + PAST * torch.arange(self.lengths.shape[0])
        rows = torch.arange(self.rows.shape[0] + PAST * self.lengths.shape[0])
        recording = found(rows, starts)
        place = rows - starts[recording] - PAST
        return torch.where(place < 0, torch.zeros_like(place), self.starts[recording] + place + 1)

    def together(self) -> Tensor:
        """Which of what is heard of `PAST` rows and one more, of those of `apart`, is each row's."""
        return self.rows + PAST * self.recording

    def by_recording(self) -> Tensor:
        """Rows of each recording [batch, frames of the longest]; behind its end the last one again."""
        places = torch.arange(self.lengths.max()).unsqueeze(0)
        return self.starts.unsqueeze(1) + torch.minimum(places, self.lengths.unsqueeze(1) - 1)


class Offline(Network):
    """Whole recordings, at the longest look-ahead."""

    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mels [batch, 80, frames] and lengths to log-probabilities and their lengths."""
        x, lengths = self.subsampling.one_after_the_other(audio_signal, length)
        rows = Rows(lengths)
        sight, in_chunks = rows.sight(), rows.in_chunks()
        apart, together = rows.apart(), rows.together()
        for block in self.blocks:
            x = block.first(x)
            x = x + self.attend(block.attention, block.layer.norm_self_att(x), *sight, in_chunks)
            heard = functional.pad(block.gated(x), (0, 0, 1, 0)).index_select(0, apart).transpose(0, 1).unsqueeze(0)
            x = block.after(x + block.convolve(heard, together))
        return self.logprobs(x)[rows.by_recording()], lengths

    @staticmethod
    def attend(attention: Attention, x: Tensor, own: Tensor, seen: Tensor, hidden: Tensor, in_chunks: Tensor) -> Tensor:
        """Rows [frames, D] to as many."""
        heads, width = attention.heads, attention.width
        parts = attention.project(x).transpose(0, 1)
        content, place, key, value = parts.split(heads)
        content, place = (part.index_select(1, own) for part in (content, place))
        key, value = (part.index_select(1, seen).reshape(heads, -1, REACH, width) for part in (key, value))
        place = attention.by_place(place, LONGEST_CHUNK).reshape(heads, -1, LONGEST_CHUNK * attention.places.shape[2])
        content = content.reshape(heads, -1, LONGEST_CHUNK, width)
        mixed = attention.mix(content, key, value, attention.shift(place, LONGEST_CHUNK), hidden)
        mixed = mixed.reshape(heads, -1, width).transpose(0, 1).reshape(-1, heads * width)
        return attention.out(mixed.index_select(0, in_chunks))


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

        `cache_last_channel` [batch, layers, 2 heads, 70, width of a head] has keys and values, `cache_last_time`
        [batch, layers, D, 8] the convolutions' past, `cache_last_channel_len` [batch] the frames seen (at most 70).
        """
        before = (FIRST_PADDING - 8 * cache_last_channel_len).clamp(min=0)
        x, lengths = self.subsampling(audio_signal, length, before)
        x, lengths = x[:, DROP:], (lengths - DROP).clamp(min=0)
        batch, chunk = x.shape[0], x.shape[1]
        places = torch.arange(LEFT_CONTEXT + chunk).unsqueeze(0) - LEFT_CONTEXT
        visible = (places >= -cache_last_channel_len.unsqueeze(1)) & (places < lengths.unsqueeze(1))
        hidden = ((~visible).float() * HIDDEN).unsqueeze(1).unsqueeze(1)
        x = x.reshape(-1, self.width)
        channels, times = [], []
        for number, block in enumerate(self.blocks):
            x = block.first(x)
            parts = block.attention.project(block.layer.norm_self_att(x))
            parts = parts.reshape(batch, chunk, -1, block.attention.width).transpose(1, 2)
            mixed, seen = self.attend(block.attention, parts, cache_last_channel[:, number], hidden)
            channels.append(seen[:, :, -LEFT_CONTEXT:])
            x = x + block.attention.out(mixed.transpose(1, 2).reshape(-1, self.width))
            heard = block.gated(x).reshape(batch, chunk, self.width).transpose(1, 2)
            heard = torch.cat([cache_last_time[:, number], heard], dim=2)
            times.append(heard[:, :, -PAST:])
            x = block.after(x + block.convolve(heard))
        seen_frames = (cache_last_channel_len + chunk).clamp(max=LEFT_CONTEXT)
        logprobs = self.logprobs(x).reshape(batch, chunk, -1)
        return logprobs, lengths, torch.stack(channels, 1), torch.stack(times, 1), seen_frames

    @staticmethod
    def attend(attention: Attention, parts: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Attend, and give all that was seen [batch, 2 heads, 70 + chunk, width]; `past` is that of the step before."""
        heads, chunk = attention.heads, parts.shape[2]
        content, place, key, value = parts.split(heads, dim=1)
        seen = torch.cat([past, torch.cat([key, value], dim=1)], dim=2)
        place = attention.by_place(place, chunk).flatten(2)
        key, value = seen.split(heads, dim=1)
        return attention.mix(content, key, value, attention.shift(place, chunk), hidden), seen
