// The trained model, in the page: it reads letters, writes phonemes, and shows what each of its heads looked at.
//
// This is the crate once more, in small. Each function names the file it follows, the shape letters are those of
// chapter 1 (T queries, S keys, H heads, D width of a head, E width, F hidden width, V tokens), and a test compares all
// numbers with the crate's. explorer.js imports this module when the reader asks for the model, and not before.
//
// Matrices lie row by row in one Float32Array, so that the inner loops walk over memory in order. All working memory is
// set aside once: no loop makes an object.

/// A word or a file that cannot be used, with a message for the reader.
export class Refusal extends Error {}

// ---------------------------------------------------------------------------------------------------------------------
// Files: the card, and the weights in the safetensors format (src/evaluation/pronouncer.rs, src/training/checkpoint.rs)
// ---------------------------------------------------------------------------------------------------------------------

/// Fetches a model: `NAME.json`, its card, and `NAME.safetensors`, its weights. `progress(bytes)` is told how much of
/// the weights has come.
export async function load(name, progress = () => {}) {
  const card = JSON.parse(new TextDecoder().decode(await download(`${name}.json`)));
  const weights = await download(`${name}.safetensors`, progress);
  const hash = fnv1a(weights);
  if (hash !== card.weights) {
    throw new Refusal(`the weights have the hash ${hash} and their card says ${card.weights}; reload the page`);
  }
  return new Pronouncer(card, new Tensors(weights));
}

async function download(url, progress = () => {}) {
  const answer = await fetch(url, { cache: "no-cache" }); // asks whether the copy the browser keeps is still good
  if (!answer.ok) throw new Refusal(`the server answers ${answer.status} for ${new URL(answer.url).pathname}`);
  const pieces = [];
  let length = 0;
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    length += piece.value.length;
    progress(length);
  }
  const bytes = new Uint8Array(length);
  let place = 0;
  for (const piece of pieces) {
    bytes.set(piece, place);
    place += piece.length;
  }
  return bytes;
}

/// The FNV-1a hash, 64 bits in two halves, for numbers here hold 53: the prime is 2⁴⁰ + 435.
function fnv1a(bytes) {
  let [high, low] = [0xcbf29ce4, 0x84222325];
  for (let i = 0; i < bytes.length; i++) {
    low = (low ^ bytes[i]) >>> 0;
    const product = low * 435;
    high = (high * 435 + Math.floor(product / 2 ** 32) + low * 256) % 2 ** 32;
    low = product % 2 ** 32;
  }
  return [high, low].map((half) => half.toString(16).padStart(8, "0")).join("");
}

/// A safetensors file: eight bytes with the length of the header, the header in JSON, the numbers.
class Tensors {
  constructor(bytes) {
    this.bytes = bytes;
    this.start = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    this.header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, this.start)));
    delete this.header.__metadata__;
  }

  /// Takes one tensor out, as 32-bit floats, if it has the shape that is wanted.
  take(name, ...shape) {
    const found = this.header[name];
    delete this.header[name];
    if (`${found?.shape}` !== `${shape}`) {
      throw new Refusal(`the weights have no \`${name}\` of the shape [${shape}]`);
    }
    const [from, to] = found.data_offsets.map((offset) => this.start + offset);
    const numbers = this.bytes.buffer.slice(from, to); // a typed array must begin at a multiple of its width
    if (found.dtype === "F32") return new Float32Array(numbers);
    if (found.dtype === "F16") return Float32Array.from(new Uint16Array(numbers), widened);
    throw new Refusal(`\`${name}\` holds ${found.dtype}; expected F32 or F16`);
  }

  /// Refuses weights that the card knows nothing of.
  end() {
    const left = Object.keys(this.header);
    if (left.length) throw new Refusal(`the weights hold \`${left[0]}\`, which the model on the card lacks`);
  }
}

/// A 16-bit float, given by its bits: one for the sign, five for the exponent, ten for the fraction.
function widened(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

// ---------------------------------------------------------------------------------------------------------------------
// Layers. Each works on `rows` positions at once, from one array into another.
// ---------------------------------------------------------------------------------------------------------------------

/// Σ a[i + n]·b[j + n]. Four sums side by side, for each addition has to wait for the one before it.
function dot(a, i, b, j, length) {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  let n = 0;
  for (; n + 3 < length; n += 4) {
    s0 += a[i + n] * b[j + n];
    s1 += a[i + n + 1] * b[j + n + 1];
    s2 += a[i + n + 2] * b[j + n + 2];
    s3 += a[i + n + 3] * b[j + n + 3];
  }
  for (; n < length; n++) s0 += a[i + n] * b[j + n];
  return s0 + s1 + s2 + s3;
}

/// y = x·Wᵀ + b (src/linear.rs).
class Linear {
  constructor(weight, bias, inputs, outputs) {
    Object.assign(this, { weight, bias, inputs, outputs }); // weight: [outputs, inputs]
  }

  forward(x, rows, y) {
    const { weight, bias, inputs, outputs } = this;
    for (let o = 0; o < outputs; o++) {
      const shift = bias ? bias[o] : 0;
      // A row of the weights is fetched once and serves all positions.
      for (let t = 0; t < rows; t++) {
        y[t * outputs + o] = shift + dot(weight, o * inputs, x, t * inputs, inputs);
      }
    }
  }
}

/// Every position brought to mean 0 and variance 1, then scaled and shifted (src/linear.rs).
class LayerNorm {
  constructor(weight, bias) {
    Object.assign(this, { weight, bias }); // [E] each
  }

  forward(x, rows, y) {
    const { weight, bias } = this;
    const width = weight.length;
    for (let at = 0; at < rows * width; at += width) {
      let mean = 0;
      for (let e = 0; e < width; e++) mean += x[at + e];
      mean /= width;
      let variance = 0;
      for (let e = 0; e < width; e++) variance += (x[at + e] - mean) ** 2;
      const scale = 1 / Math.sqrt(variance / width + 1e-5);
      for (let e = 0; e < width; e++) y[at + e] = (x[at + e] - mean) * scale * weight[e] + bias[e];
    }
  }
}

/// erf(z) = 2/√π · e^(−z²) · Σ 2ⁿ·z²ⁿ⁺¹ / (1·3·5 ⋯ (2n + 1)), to ten digits (Abramowitz & Stegun, 7.1.6). All terms have
/// one sign, so nothing cancels.
export function erf(z) {
  if (Math.abs(z) > 5) return Math.sign(z);
  let term = z;
  let sum = z;
  for (let n = 1; Math.abs(term) > 1e-11 * Math.abs(sum); n++) {
    term *= (2 * z * z) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum;
}

/// The non-linearities a card can name (src/feed_forward.rs). GELU is the exact one, x·Φ(x).
const ACTIVATIONS = {
  relu: (x) => Math.max(0, x),
  gelu: (x) => (x / 2) * (1 + erf(x / Math.SQRT2)),
  silu: (x) => x / (1 + Math.exp(-x)),
};

/// Attention and feed-forward network, each inside a residual connection with a norm (src/block.rs).
class Block {
  constructor(config, take, room) {
    const { width, hidden, heads, max_positions: positions } = config;
    Object.assign(this, { width, heads, room, activation: ACTIVATIONS[config.activation] });
    this.isPreNorm = config.norm === "pre";
    const linear = (name, inputs, outputs, dash = ".") =>
      new Linear(take(`${name}${dash}weight`, outputs, inputs), take(`${name}${dash}bias`, outputs), inputs, outputs);
    const norm = (name) => new LayerNorm(take(`${name}.weight`, width), take(`${name}.bias`, width));
    this.input = linear("self_attn.in_proj", width, 3 * width, "_"); // query, key and value, one below the other
    this.output = linear("self_attn.out_proj", width, width);
    this.attentionNorm = norm("norm1");
    this.expand = linear("linear1", width, hidden);
    this.contract = linear("linear2", hidden, width);
    this.feedForwardNorm = norm("norm2");
    // What is kept of all positions read so far (src/cache.rs).
    this.keys = new Float32Array(positions * width); // [S, H·D]
    this.values = new Float32Array(positions * width); // [S, H·D]
  }

  /// Passes `rows` new positions, the first of them at position `first`, through the block, in place.
  forward(x, first, rows, weights) {
    const { room } = this;
    const normed = this.isPreNorm ? this.normed(this.attentionNorm, x, rows) : x;
    this.attend(normed, first, rows, weights); // into room.change
    this.add(x, rows, this.attentionNorm);
    const between = this.isPreNorm ? this.normed(this.feedForwardNorm, x, rows) : x;
    this.expand.forward(between, rows, room.hidden); // [T, F]
    const size = rows * this.expand.outputs;
    for (let i = 0; i < size; i++) room.hidden[i] = this.activation(room.hidden[i]);
    this.contract.forward(room.hidden, rows, room.change); // [T, E]
    this.add(x, rows, this.feedForwardNorm);
  }

  normed(norm, x, rows) {
    norm.forward(x, rows, this.room.normed);
    return this.room.normed;
  }

  /// The residual connection: x ← x + change, and after it the norm, if that is where the norms stand.
  add(x, rows, norm) {
    const { change } = this.room;
    for (let i = 0; i < rows * this.width; i++) x[i] += change[i];
    if (!this.isPreNorm) norm.forward(x, rows, x);
  }

  /// Multi-head attention of the new positions to all that is read, themselves included (src/multi_head.rs,
  /// src/attention.rs). No mask is needed: the letters come in one go and see each other, and when a phoneme comes, those
  /// after it are not there yet.
  attend(x, first, rows, weights) {
    const { width, heads, keys, values, room } = this;
    const { projected, scores, context } = room;
    const headWidth = width / heads; // D
    const root = Math.sqrt(headWidth);
    const seen = first + rows; // S
    this.input.forward(x, rows, projected); // [T, 3·H·D]
    for (let t = 0; t < rows; t++) {
      const at = t * 3 * width;
      keys.set(projected.subarray(at + width, at + 2 * width), (first + t) * width);
      values.set(projected.subarray(at + 2 * width, at + 3 * width), (first + t) * width);
    }
    context.fill(0, 0, rows * width);
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < rows; t++) {
        const query = t * 3 * width + h * headWidth;
        let largest = -Infinity;
        for (let s = 0; s < seen; s++) {
          scores[s] = dot(projected, query, keys, s * width + h * headWidth, headWidth) / root;
          largest = Math.max(largest, scores[s]);
        }
        let sum = 0;
        for (let s = 0; s < seen; s++) sum += scores[s] = Math.exp(scores[s] - largest);
        const row = weights[h][first + t]; // what no query may see stays 0
        const mixed = t * width + h * headWidth;
        for (let s = 0; s < seen; s++) {
          const weight = (row[s] = scores[s] / sum);
          const value = s * width + h * headWidth;
          for (let d = 0; d < headWidth; d++) context[mixed + d] += weight * values[value + d];
        }
      }
    }
    this.output.forward(context, rows, room.change); // [T, E]
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The model (src/model.rs) and how it writes (src/evaluation/decoding.rs)
// ---------------------------------------------------------------------------------------------------------------------

/// Refuses what this page has no code for, by name.
function check(config) {
  const known = { norm: ["pre", "post"], positions: ["learned", "sinusoidal"], activation: Object.keys(ACTIVATIONS) };
  for (const [setting, values] of Object.entries(known)) {
    if (!values.includes(config[setting])) {
      throw new Refusal(`${setting} = ${config[setting]}: this page knows ${values.join(", ")}`);
    }
  }
  if (config.width % config.heads) {
    throw new Refusal(`heads = ${config.heads}: the width ${config.width} cannot be cut into ${config.heads} equal heads`);
  }
}

/// The vectors of positions that are not learned (src/model.rs).
function sinusoids(positions, width) {
  return Float32Array.from({ length: positions * width }, (_, i) => {
    const [position, e] = [Math.floor(i / width), i % width];
    const angle = position * 10_000 ** (-(e - (e % 2)) / width);
    return e % 2 ? Math.cos(angle) : Math.sin(angle);
  });
}

/// A model that pronounces. It does one word at a time.
export class Pronouncer {
  constructor(card, tensors) {
    const config = card.model;
    check(config);
    const { vocabulary: tokens, max_positions: positions, width, hidden } = config;
    const numbers = (...sizes) => new Float32Array(sizes.reduce((a, b) => a * b));
    const room = {
      normed: numbers(positions, width),
      projected: numbers(positions, 3, width),
      scores: numbers(positions),
      context: numbers(positions, width),
      change: numbers(positions, width),
      hidden: numbers(positions, hidden),
    };
    const isLearned = config.positions === "learned";
    this.config = config;
    this.hash = card.weights;
    this.symbols = card.vocabulary; // V of them
    this.longestWord = Math.floor(positions / 2) - 1;
    this.embedding = tensors.take("embedding", tokens, width); // [V, E]
    this.scale = isLearned ? 1 : Math.sqrt(width); // sines are of size 1, and the tokens made as large
    this.positions = isLearned ? tensors.take("positions", positions, width) : sinusoids(positions, width);
    this.blocks = Array.from({ length: config.blocks }, (_, index) => {
      return new Block(config, (name, ...shape) => tensors.take(`layers.${index}.${name}`, ...shape), room);
    });
    this.norm =
      config.norm === "pre" && new LayerNorm(tensors.take("norm.weight", width), tensors.take("norm.bias", width));
    this.unembed = new Linear(this.embedding, null, width, tokens); // the embedding once more
    tensors.end();
    [this.sep, this.eos] = ["<sep>", "<eos>"].map((symbol) => this.symbols.indexOf(symbol));
    this.countsAnew = config.separator !== undefined;
    if (this.countsAnew && config.separator !== this.sep) {
      throw new Refusal(`separator = ${config.separator}: this page knows ${this.sep}`);
    }
    this.phonemes = this.symbols.flatMap((symbol, id) => (/^[A-Z]+$/.test(symbol) ? [id] : []));
    this.x = numbers(positions, width);
    this.logits = numbers(tokens);
  }

  /// The ids of a word's letters (src/data/vocabulary.rs), or a refusal in the crate's words.
  letters(word) {
    const trimmed = word.trim();
    if (!trimmed) throw new Refusal(`\`${word}\`: an empty word has no pronunciation; give at least one letter a–z`);
    const characters = [...trimmed]; // whole characters, not halves of an emoji
    const ids = characters.map((symbol, index) => {
      const letter = symbol === "’" ? "'" : symbol.toLowerCase();
      if (!/^['A-Za-z’]$/.test(symbol)) {
        throw new Refusal(
          `\`${trimmed}\`: character '${symbol}' at position ${index + 1} is not a letter a–z or an apostrophe; ` +
            "write numbers and symbols out as words",
        );
      }
      return this.symbols.indexOf(letter);
    });
    if (ids.length > this.longestWord) {
      throw new Refusal(
        `\`${word}\`: ${ids.length} letters, and the model takes at most ${this.longestWord}; give a shorter word`,
      );
    }
    return ids;
  }

  /// Pronounces a word, always with the likeliest next phoneme, and keeps what each head looked at.
  ///
  /// The answer is a capture as the crate saves it (src/visualization/capture.rs) with the `phonemes`, the `probability`
  /// of all of them together with the end, and the `logits` that each of these was chosen by, [V] each. It waits for
  /// `pause()` now and then, so that a page can go on with other things; if that throws, the work ends.
  async pronounce(word, pause = async () => {}) {
    const ids = this.letters(word);
    ids.push(this.sep);
    const { max_positions: limit, blocks, heads } = this.config;
    const prefix = ids.length;
    // What is written is counted anew, from the middle of the positions (src/model.rs).
    const shift = this.countsAnew ? Math.floor(limit / 2) - prefix : 0;
    const place = (index) => (index < prefix - 1 ? index : index + shift);
    // [blocks][H][T][S], cut to size when the length is known.
    const weights = Array.from({ length: blocks }, () =>
      Array.from({ length: heads }, () => Array.from({ length: limit }, () => new Float32Array(limit))),
    );
    const allLogits = [];
    let logProbability = 0;
    await this.read(ids, 0, place, weights, pause);
    let writable = this.phonemes; // not the end at once: a pronunciation has a phoneme
    for (;;) {
      allLogits.push(this.logits.slice());
      const { token, logProbability: next } = this.likeliest(writable);
      writable = [...this.phonemes, this.eos];
      logProbability += next;
      if (token === this.eos) break;
      ids.push(token);
      await this.read([token], ids.length - 1, place, weights, pause);
      if (place(ids.length) === limit) break; // cut off, for no position is left
    }
    const tokens = ids.map((id) => this.symbols[id]);
    const cut = (head) => head.slice(0, ids.length).map((row) => row.slice(0, ids.length));
    return {
      model: this.hash,
      word,
      tokens,
      prefix,
      weights: weights.map((block) => block.map(cut)),
      phonemes: tokens.slice(prefix),
      probability: Math.exp(logProbability),
      logits: allLogits,
    };
  }

  /// Reads new tokens, the first of them number `first`, and leaves in `logits` what may come after the last. `place`
  /// says which position vector belongs to a number.
  async read(ids, first, place, weights, pause) {
    const { embedding, positions, scale, x } = this;
    const { width } = this.config;
    ids.forEach((id, t) => {
      for (let e = 0; e < width; e++) {
        x[t * width + e] = embedding[id * width + e] * scale + positions[place(first + t) * width + e];
      }
    });
    for (const [index, block] of this.blocks.entries()) {
      block.forward(x, first, ids.length, weights[index]);
      await pause();
    }
    const last = x.subarray((ids.length - 1) * width, ids.length * width); // [E]
    if (this.norm) this.norm.forward(last, 1, last);
    this.unembed.forward(last, 1, this.logits); // [V]
  }

  /// The likeliest of the tokens that may be written, and its log-probability among these.
  likeliest(writable) {
    const { logits } = this;
    const token = writable.reduce((best, id) => (logits[id] > logits[best] ? id : best));
    const sum = writable.reduce((total, id) => total + Math.exp(logits[id] - logits[token]), 0);
    return { token, logProbability: -Math.log(sum) };
  }
}
