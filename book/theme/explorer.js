// The explorer of chapter 10: choose a word, a block and a head, and see where each token looks.
//
// It fills every element `.explorer` of a page and does nothing on a page without one. Such an element holds
//   - a figure `.explorer-still`, which stands there as long as this script has not run;
//   - a `<script type="application/json">` with captures that the crate made (src/visualization/capture.rs): the words
//     to choose from, shown without any request;
//   - in `data-module` and `data-model` the addresses of pronouncer.js and of the model, both fetched only when the
//     reader asks for them. From then on any word can be typed.
//
// All choices are radio buttons, so that keys, focus and screen readers work as everywhere else.
"use strict";

(() => {
  /// Makes an element: `make("p", { class: "note" }, "text", child)`.
  function make(tag, attributes = {}, ...children) {
    const isSvg = tag === "svg" || tag === "path" || tag === "g";
    const element = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  let groups = 0;

  /// A group of radio buttons. Each option has a `name` for those who hear it and the `face` the others see.
  function radios(legend, className, options, onChoose) {
    const group = `explorer-choice-${groups++}`; // no two explorers on a page may share a group
    const inputs = options.map(({ name }) => make("input", { type: "radio", name: group, "aria-label": name }));
    const labels = options.map(({ face }, index) => make("label", {}, inputs[index], face));
    const element = make("fieldset", { class: className }, make("legend", {}, legend), ...labels);
    inputs.forEach((input, index) => input.addEventListener("change", () => onChoose(index)));
    const choose = (index) => inputs.forEach((input, other) => (input.checked = other === index));
    return { element, inputs, labels, choose };
  }

  const rounded = (weight) => weight.toFixed(2);

  /// Whether the query may see the key: all letters may be seen, and the phonemes up to the query itself.
  const isOpen = (capture, query, key) => key < capture.prefix || key <= query;

  /// The head to begin with: the one in which the phonemes, taken together, look most clearly at most letters. The row
  /// in which a phoneme is predicted is that of the token before it.
  function clearestHead({ weights, prefix, tokens }) {
    const clarity = (head) => {
      const rows = head.slice(prefix - 1, tokens.length - 1);
      const best = (letter) => Math.max(...rows.map((row) => row[letter]));
      return tokens.slice(0, prefix - 1).reduce((sum, _, letter) => sum + best(letter), 0);
    };
    const all = weights.flatMap((heads, block) => heads.map((head, index) => [clarity(head), block, index]));
    const [, block, head] = all.reduce((best, one) => (one[0] > best[0] ? one : best));
    return { block, head };
  }

  class Explorer {
    constructor(place) {
      const { bytes, captures } = JSON.parse(place.querySelector('script[type="application/json"]').textContent);
      this.place = place;
      this.captures = captures;
      this.size = `${(bytes / 1e6).toFixed(1)} MB`;
      this.view = 0; // of VIEWS
      Object.assign(this, clearestHead(captures[0]));
      this.build();
      this.choosePrepared(0);
      place.classList.add("is-live");
    }

    // The parts that stay, from top to bottom.

    build() {
      const words = this.captures.map(({ word }) => ({ name: word, face: make("span", {}, word) }));
      this.words = radios("Word", "explorer-words", words, (index) => this.choosePrepared(index));
      this.own = make("div", { class: "explorer-own" });
      this.status = make("p", { class: "explorer-status", role: "status" });
      this.offerModel();

      const views = ["One head", "Whole model"].map((name) => ({ name, face: make("span", {}, name) }));
      this.views = radios("View", "explorer-segments explorer-views", views, (index) => this.draw({ view: index }));
      const { weights } = this.captures[0];
      const segments = (kind, count, onChoose) => {
        const options = Array.from({ length: count }, (_, index) => ({ name: `${kind} ${index + 1}`, face: make("span", {}, index + 1) }));
        return radios(kind, `explorer-segments explorer-${kind}s`, options, onChoose);
      };
      this.blocks = segments("block", weights.length, (block) => this.draw({ block }));
      this.heads = segments("head", weights[0].length, (head) => this.draw({ head }));

      this.title = make("p", { class: "explorer-title" });
      this.stage = make("div", { class: "explorer-stage" });
      this.says = make("p", { class: "explorer-says", "aria-live": "polite" });
      const closer = make("button", { type: "button", class: "explorer-closer" }, "See this head large");
      closer.addEventListener("click", () => this.enlarge());
      this.panel = make(
        "div",
        { class: "explorer-panel", role: "group", "aria-label": "Explorer of attention weights" },
        make("div", { class: "explorer-row" }, this.words.element),
        this.own,
        this.status,
        make("div", { class: "explorer-row" }, this.views.element, this.blocks.element, this.heads.element),
        this.title,
        this.stage,
        this.says,
        closer,
      );
      this.place.append(this.panel);
      this.panel.addEventListener("keydown", (event) => this.onKey(event));
      // The maps are painted in a colour of the theme, which the reader may change.
      const repaint = new MutationObserver(() => this.paintMaps());
      repaint.observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });
    }

    choosePrepared(index) {
      this.run = null; // what is being computed is no longer asked for
      this.words.choose(index);
      this.say("");
      if (this.input) this.input.value = "";
      this.show(this.captures[index]);
    }

    // A word: its tokens as queries and as keys, and a map for each head.

    show(capture) {
      this.capture = capture;
      this.hovered = null;
      this.query = Math.max(capture.prefix - 1, capture.tokens.length - 2); // where the last phoneme is chosen
      const { word, tokens, prefix, probability } = capture;
      const said = make("span", { class: "explorer-phonemes" }, `→ ${tokens.slice(prefix).join(" ")}`);
      this.title.replaceChildren(make("b", {}, word.trim()), said);
      if (probability !== undefined) this.title.append(make("small", {}, `probability ${rounded(probability)}`));

      this.stage.replaceChildren(this.buildHead(), this.buildModel());
      this.stage.style.setProperty("--tokens", tokens.length);
      this.stage.classList.toggle("is-long", tokens.length > 24);
      this.draw({ query: this.query });
    }

    buildHead() {
      const { tokens, prefix } = this.capture;
      const face = (token) => make("span", { class: token === "<sep>" ? "token sep" : "token" }, token);
      const kind = (index) => (index < prefix - 1 ? "letter" : index < prefix ? "separator" : "phoneme");
      const options = tokens.map((token, index) => ({ name: `${token}, ${kind(index)} ${index + 1}`, face: face(token) }));
      this.queries = radios("Query: the token that looks", "explorer-queries", options, (query) => this.draw({ query }));
      this.queries.labels.forEach((label, index) => {
        label.addEventListener("pointerenter", (event) => {
          if (event.pointerType === "mouse") this.draw({ hovered: index }); // a finger does not hover: it chooses
        });
      });
      this.queries.element.addEventListener("pointerleave", () => this.draw({ hovered: null }));

      [this.faint, this.strong] = ["faint", "strong"].map((name) => make("g", { class: name }));
      this.drawn = null; // the head whose faint lines are there
      const box = { viewBox: `0 0 ${tokens.length} 1`, preserveAspectRatio: "none", "aria-hidden": "true" };
      const lines = make("svg", box, this.faint, this.strong);
      this.numbers = tokens.map(() => make("span", { class: "number" }));
      this.keys = tokens.map((token, index) => make("li", {}, face(token), this.numbers[index]));
      const keys = make("ol", { class: "explorer-keys", "aria-label": "Keys, and how much each gets" }, ...this.keys);
      const note = make("p", { class: "explorer-axis", "aria-hidden": "true" }, "Key: what it looks at");
      const inner = make("div", { class: "explorer-tokens" }, this.queries.element, lines, keys, note);
      return make("div", { class: "explorer-head" }, inner);
    }

    buildModel() {
      const { weights, tokens } = this.capture;
      this.maps = weights.flatMap((heads) => heads.map(() => make("canvas", { width: tokens.length, height: tokens.length })));
      const options = weights.flatMap((heads, block) =>
        heads.map((_, head) => ({ name: `block ${block + 1}, head ${head + 1}`, face: this.maps[block * heads.length + head] })),
      );
      const count = weights[0].length;
      const choose = (index) => this.draw({ block: Math.floor(index / count), head: index % count });
      this.grid = radios("A map for each head", "explorer-maps", options, choose);
      this.grid.element.style.setProperty("--heads", count);
      // What stands above and at the left is also in the name of each map.
      const mark = (text, at) => make("span", { class: "explorer-mark", style: at, "aria-hidden": "true" }, text);
      this.grid.element.append(
        ...weights[0].map((_, head) => mark(`head ${head + 1}`, `grid-area: 2 / ${head + 2}`)),
        ...weights.map((_, block) => mark(`block ${block + 1}`, `grid-area: ${block + 3} / 1`)),
      );
      this.grid.labels.forEach((label, index) => {
        label.style.gridArea = `${Math.floor(index / count) + 3} / ${(index % count) + 2}`;
        label.append(make("span", { class: "explorer-band" }));
      });
      const scale = make("span", { class: "explorer-scale", "aria-hidden": "true" });
      const legend = make("span", { class: "explorer-legend" }, "Weight 0 ", scale, " 1");
      const note = make("p", { class: "explorer-axis" }, "Rows: queries. Columns: keys. ", legend);
      return make("div", { class: "explorer-model" }, this.grid.element, note);
    }

    // What changes with each choice.

    draw(changes = {}) {
      Object.assign(this, changes);
      this.views.choose(this.view);
      this.blocks.choose(this.block);
      this.heads.choose(this.head);
      this.queries.choose(this.query);
      this.grid.choose(this.block * this.capture.weights[0].length + this.head);
      this.panel.dataset.view = this.view === 0 ? "head" : "model";
      this.drawLines();
      this.drawKeys();
      this.drawSentence();
      this.stage.style.setProperty("--query", this.query);
      if (this.view === 1) this.paintMaps();
      if ("query" in changes) this.scrollTo(this.query);
    }

    /// The weights the shown query gives: a row of the shown head, [S].
    row() {
      return this.capture.weights[this.block][this.head][this.shown()];
    }

    shown() {
      return this.hovered ?? this.query;
    }

    /// All queries faintly, and the shown one as strong as its weights.
    drawLines() {
      const line = (query, key, weight, style) => {
        const [from, to] = [query + 0.5, key + 0.5];
        return make("path", { d: `M${from} 0C${from} .5 ${to} .5 ${to} 1`, style: style(weight) });
      };
      const fan = (query, row, style) =>
        Array.from(row, (weight, key) => (weight >= 0.02 ? line(query, key, weight, style) : "")).filter(Boolean);
      const faint = (weight) => `opacity: ${(weight * 0.3).toFixed(2)}; stroke-width: 1`;
      const strong = (weight) => `opacity: ${(0.25 + 0.75 * weight).toFixed(2)}; stroke-width: ${(1 + 6 * weight).toFixed(1)}`;
      const head = this.capture.weights[this.block][this.head];
      if (this.drawn !== head) {
        this.faint.replaceChildren(...Array.from(head, (row, query) => fan(query, row, faint)).flat());
        this.drawn = head;
      }
      this.strong.replaceChildren(...fan(this.shown(), this.row(), strong));
    }

    drawKeys() {
      const shown = this.shown();
      this.queries.labels.forEach((label, index) => label.classList.toggle("is-shown", index === shown));
      this.row().forEach((weight, index) => {
        const key = this.keys[index];
        const open = isOpen(this.capture, shown, index);
        key.style.setProperty("--weight", weight);
        key.classList.toggle("is-closed", !open);
        this.numbers[index].textContent = open ? rounded(weight) : "–";
      });
    }

    /// The same in words: `AH, before F, looks at g 0.61, h 0.20.`
    drawSentence() {
      const { tokens, prefix } = this.capture;
      const query = this.shown();
      const named = (index) => {
        const twice = tokens.indexOf(tokens[index]) !== tokens.lastIndexOf(tokens[index]);
        return twice ? `${tokens[index]} (${index + 1})` : tokens[index];
      };
      const next = tokens[query + 1] ?? "the end";
      const before = query >= prefix - 1 ? `, before ${next},` : "";
      const strongest = Array.from(this.row(), (weight, index) => ({ weight, index }))
        .sort((a, b) => b.weight - a.weight)
        .filter(({ weight }, place) => place === 0 || (place < 4 && weight >= 0.05))
        .map(({ weight, index }) => `${named(index)} ${rounded(weight)}`);
      const head = make("b", {}, `Block ${this.block + 1}, head ${this.head + 1}.`);
      this.says.replaceChildren(head, ` ${named(query)}${before} looks at ${strongest.join(", ")}.`);
    }

    /// Each map a picture with one dot for a weight: the colour of the theme, as opaque as the weight is large.
    paintMaps() {
      if (this.view !== 1) return;
      const size = this.capture.tokens.length;
      const colour = getComputedStyle(this.maps[0]).color.match(/[\d.]+/g).map(Number);
      this.capture.weights.flat().forEach((head, index) => {
        const image = new ImageData(size, size);
        head.forEach((row, query) =>
          row.forEach((weight, key) => {
            image.data.set([colour[0], colour[1], colour[2], Math.round(255 * weight)], 4 * (query * size + key));
          }),
        );
        this.maps[index].getContext("2d").putImageData(image, 0, 0);
      });
    }

    /// Brings a token of a long word into view. Only the row moves, not the page.
    scrollTo(index) {
      const frame = this.stage.firstChild;
      const { offsetLeft, offsetWidth } = this.queries.labels[index];
      frame.scrollLeft = offsetLeft + offsetWidth / 2 - frame.clientWidth / 2;
    }

    // Keys. Left and right go from radio to radio by themselves; here is what up and down mean.

    onKey(event) {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      const isQuery = this.queries.inputs.includes(event.target);
      const isMap = this.grid.inputs.includes(event.target);
      if (step && (isQuery || isMap)) {
        event.preventDefault();
        // From one head to the next through the whole model, or from one block to the next in the grid.
        const { weights } = this.capture;
        const count = weights[0].length;
        const all = weights.length * count;
        const index = this.block * count + this.head + (isMap ? step * count : step);
        const head = (index + all) % all;
        this.draw({ block: Math.floor(head / count), head: head % count });
        if (isMap) this.grid.inputs[head].focus();
      } else if (event.key === "Enter" && isMap) {
        this.enlarge();
      }
    }

    enlarge() {
      this.draw({ view: 0 });
      this.queries.inputs[this.query].focus();
    }

    // The model itself.

    offerModel() {
      const button = make("button", { type: "button" }, `Load the model (${this.size})`);
      button.addEventListener("click", () => this.loadModel(button));
      this.own.replaceChildren(make("span", {}, "Any other word? The trained model can run in this page."), button);
    }

    async loadModel(button) {
      button.disabled = true;
      try {
        if (location.protocol === "file:") {
          throw Error("a page opened as a file may fetch nothing; serve the book with `mdbook serve` and open it there");
        }
        const address = (name) => new URL(this.place.dataset[name], document.baseURI).href;
        this.say("Loading …");
        const { load } = await import(address("module"));
        const model = await load(address("model"), (bytes) => this.say(`Loading … ${(bytes / 1e6).toFixed(1)} of ${this.size}`));
        if (model.hash !== this.captures[0].model) throw Error("it is not the one this page was made with; reload the page");
        this.model = model;
      } catch (error) {
        this.say(`The model cannot be loaded: ${error.message}.`, true);
        button.disabled = false;
        return;
      }
      this.input = make("input", {
        type: "text",
        id: `explorer-word-${groups++}`,
        maxlength: 60,
        autocomplete: "off",
        autocapitalize: "none",
        spellcheck: "false",
        enterkeyhint: "go",
      });
      const label = make("label", { for: this.input.id }, "Any word");
      const form = make("form", {}, label, this.input);
      this.input.addEventListener("input", () => {
        this.run = null;
        clearTimeout(this.wait);
        this.wait = setTimeout(() => this.pronounce(), 120); // not every letter of a word that is being typed
      });
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.pronounce();
      });
      this.say("The model is here. Type a word.");
      this.own.replaceChildren(form);
      this.input.focus();
    }

    async pronounce() {
      clearTimeout(this.wait);
      const run = (this.run = {});
      let since = performance.now();
      const pause = async () => {
        if (performance.now() - since > 12) {
          await new Promise((resolve) => setTimeout(resolve)); // the page may draw, and take the next key
          since = performance.now();
        }
        if (this.run !== run) throw run; // another word was asked for
      };
      try {
        const capture = await this.model.pronounce(this.input.value, pause);
        this.words.choose(-1);
        this.say("");
        this.show(capture);
      } catch (error) {
        if (error === run) return;
        this.say(error.message, true);
      }
    }

    /// Shows a message. What stands between backticks is the reader's.
    say(message, isRefusal = false) {
      const parts = message.replace(/^`\s*`: /, "").split("`");
      this.status.replaceChildren(...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
      this.status.classList.toggle("is-refusal", isRefusal);
      this.input?.setAttribute("aria-invalid", isRefusal);
    }
  }

  for (const place of document.querySelectorAll(".explorer")) new Explorer(place);
})();
