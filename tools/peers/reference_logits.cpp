// What retort itself computes, for tools/peers/check_exports.py to compare with others:
//   reference_logits MODEL ADAPTER|- PROMPTS OUT
// PROMPTS is a JSON array of texts (encoded with special tokens as text) and of id lists. Writes OUT.json,
// the ids and the model's end and beginning tokens, and OUT.f32, the logits of every position end to end as
// fp32. Matrices as the file stores them, arithmetic in fp32.
#include <fmt/format.h>

#include <fstream>
#include <numeric>

#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "models/model.h"

int main(int count, char** arguments) try {
  using namespace retort;
  if (count != 5) {
    fmt::print(stderr, "usage: reference_logits MODEL ADAPTER|- PROMPTS OUT\n");
    return 2;
  }
  const std::string adapter = arguments[2], out = arguments[4];
  auto loaded = load_model({.path = arguments[1], .weights = "keep", .compute = "f32"});
  if (adapter != "-") load_adapter(loaded, adapter);
  const auto prompts = read_json(arguments[3]);
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
  write_text(out + ".json", Json{{"ids", sequences},
                                 {"vocabulary", loaded.model->config.vocabulary},
                                 {"eos", loaded.model->config.eos}}
                                    .dump() +
                                "\n");
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
