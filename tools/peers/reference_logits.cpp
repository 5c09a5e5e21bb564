// What retort itself computes, for tools/peers/check_exports.py to compare with others:
//   reference_logits MODEL ADAPTER|- PROMPTS OUT
// PROMPTS is a JSON array of texts (encoded with special tokens as text) and of id lists. Writes OUT.json,
// the ids and the model's end and beginning tokens, and OUT.f32, the logits of every position end to end as
// fp32. Matrices as the file stores them, arithmetic in fp32. `reference_logits -` takes such jobs from
// standard input, a JSON object {model, adapter, prompts, out} a line, and answers each with what it would
// have written to OUT.json, or {error}: for family_matrix.py, which asks for hundreds.
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <numeric>

#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "models/model.h"

namespace {

using namespace retort;

Json write_logits(const std::string& model, const std::string& adapter, const Json& prompts,
                  const std::string& out) {
  auto loaded = load_model({.path = model, .weights = "keep", .compute = "f32"});
  if (adapter != "-") load_adapter(loaded, adapter);
  const at::NoGradGuard no_graph;
  std::ofstream values(out + ".f32", std::ios::binary);
  Json sequences = Json::array();
  for (const auto& prompt : prompts) {
    const auto ids = prompt.is_string() ? loaded.tokenizer->encode(prompt.get<std::string>())
                                        : prompt.get<std::vector<int32_t>>();
    sequences.push_back(ids);
    if (ids.empty()) continue;
    Forest forest;
    forest.add_segment(ids);
    const auto pass = make_pass(forest, at::kFloat);
    std::vector<int32_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), 0);
    const auto scores = logits(loaded.model->hidden(pass), rows, loaded.model->head, pass).contiguous();
    values.write(reinterpret_cast<const char*>(scores.const_data_ptr<float>()),
                 static_cast<std::streamsize>(scores.numel() * sizeof(float)));
  }
  values.close();
  if (!values) throw Failure(out + ".f32: cannot be written; is the disk full?");
  return {
      {"ids", sequences}, {"vocabulary", loaded.model->config.vocabulary}, {"eos", loaded.model->config.eos}};
}

void answer_jobs() {
  for (std::string line; std::getline(std::cin, line);) {
    Json answer;
    try {
      const auto job = parse_json(line, "standard input");
      answer = write_logits(job.at("model"), job.at("adapter"), job.at("prompts"), job.at("out"));
    } catch (const std::exception& error) { answer = {{"error", error.what()}}; }
    fmt::print("{}\n", answer.dump(-1, ' ', false, Json::error_handler_t::replace));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int count, char** arguments) try {
  if (count == 2 && std::string_view(arguments[1]) == "-") {
    answer_jobs();
    return 0;
  }
  if (count != 5) {
    fmt::print(stderr, "usage: reference_logits MODEL ADAPTER|- PROMPTS OUT\n       reference_logits -\n");
    return 2;
  }
  const std::string out = arguments[4];
  const auto answer = write_logits(arguments[1], arguments[2], read_json(arguments[3]), out);
  write_text(out + ".json", answer.dump() + "\n");
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
