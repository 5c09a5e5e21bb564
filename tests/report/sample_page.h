// A page with every part filled in, as large as a real one.
#pragma once
#include <cmath>
#include <string>

#include "report/page.h"

namespace retort {

inline Page sample_page() {
  Page page;
  page.title = "SmolLM2-135M codes diagnoses: ICD-10-CM categories from descriptions";
  page.about = "QLoRA on the April 2026 code list; held-out codes are never trained on.";
  page.facts = {{"Base", "checkpoints/smollm2-135m-instruct-q4_1.gguf"},
                {"Adapter", "lora, rank 16"},
                {"Samples", "46,000 + 200 held out"},
                {"Steps", "300"}};
  page.tiles = {{"Exact match", "33.0 %", "base 0.0 %"},
                {"Held-out loss", "0.873", "base 7.211"},
                {"Training", "8 min 12 s", "412 tokens/s"},
                {"Peak memory", "1.2 GiB", ""}};
  page.tables = {{"Results",
                  "200 held-out samples, greedy.",
                  {"Model", "Exact match", "Perplexity", "Size", "Tokens/s"},
                  {{"base", "0.0 %", "1354.2", "93.8 MiB", "210"},
                   {"tuned", "33.0 %", "2.39", "-", "204"},
                   {"model-Q4_K.gguf", "32.5 %", "2.42", "100.1 MiB", "208"}},
                  false},
                 {"Gate",
                  "The run exits 1 when a bound is broken.",
                  {"bound", "result"},
                  {{"completion.exact_match of tuned is 0.33; at least 0.2", "holds"}},
                  false}};
  page.later_tables = {{"Stages",
                        "",
                        {"stage", "seconds", "result"},
                        {{"reopen", "43.5",
                          "export/model-Q4_K.gguf: KL 6.00e-02 nats a token, top-1 87.5 %, 200 of 200 "
                          "prompts tokenize alike, exact match 32.5 %, perplexity 2.42"}},
                        true}};
  Series loss{"loss", {}, true}, rate{"rate", {}}, norm{"norm", {}}, speed{"tokens/s", {}},
      memory{"memory", {}};
  for (int step = 1; step <= 300; ++step) {
    const double t = step / 300.0;
    loss.points.emplace_back(step,
                             0.8 + 6 * std::exp(-9 * t) + 0.25 * std::sin(step * 12.9898) * (1 - 0.5 * t));
    rate.points.emplace_back(
        step, 5e-4 * (t < 0.05 ? t / 0.05 : 0.5 * (1 + std::cos(3.14159 * (t - 0.05) / 0.95))));
    norm.points.emplace_back(step, 0.6 + 3 * std::exp(-12 * t) + 0.1 * std::cos(step * 3.7));
    speed.points.emplace_back(step, 405 + 12 * std::sin(step * 0.7));
    memory.points.emplace_back(step, 1.1 + 0.1 * t);
  }
  Series evaluated{"held out", {{0, 7.21}, {100, 1.3}, {200, 0.95}, {300, 0.873}}};
  auto trained = smoothed(loss, 20);
  trained.name = "training";
  page.charts = {{"Loss", "nats per supervised token", {loss, trained, evaluated}, true},
                 {"Learning rate", "", {rate}, true},
                 {"Gradient norm", "before clipping", {norm}, true},
                 {"Speed", "tokens/s", {speed}, true},
                 {"Memory", "GiB resident", {memory}, true}};
  page.samples = {{"Fracture of unspecified part of neck of right femur, subsequent encounter", "S72.0",
                   "The code for this is 123", "S72.0", false, true},
                  {"Type 2 diabetes mellitus with diabetic neuropathy, unspecified", "E11", "I am sorry",
                   "E13", false, false}};
  page.notes = {
      "576-wide rows are no multiple of 256: llama.cpp's fallback types were used for 120 of 272 tensors."};
  page.recipe = "model:\n  path: \"checkpoints/smollm2-135m-instruct-q4_1.gguf\"\n";
  page.recipe_sha256 = std::string(64, 'a');
  page.read = {{"checkpoints/smollm2-135m-instruct-q4_1.gguf", 98362432, std::string(64, 'b')}};
  page.written = {{"adapter/adapter_model.safetensors", 19540000, std::string(64, 'c')}};
  page.footer = "Written by retort 0.1.0.";
  return page;
}

}  // namespace retort
