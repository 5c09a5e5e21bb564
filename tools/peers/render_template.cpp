// What retort's chat templates write, for tools/peers/check_templates.py to compare with transformers:
// answers each line of standard input, {source, tokens, jobs: [{messages, beside, header}]}, with
// [{text} or {problem}, ...]. With {named: {name: source, ...}} instead of a source the model brings several,
// and each job says in `template` what data.template does.
#include <fmt/format.h>

#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "data/json_records.h"
#include "text/template_engine.h"
#include "text/tokenizer.h"

namespace {

using namespace retort;

// Has the tokens that a line names and no other.
class NamedTokens : public Tokenizer {
 public:
  explicit NamedTokens(const OrderedJson& tokens) {
    for (const auto& [name, spelling] : tokens.items()) {
      (name == "bos_token" ? bos : name == "eos_token" ? eos : pad) = static_cast<int32_t>(all_.size());
      all_.push_back(spelling.get<std::string>());
    }
  }
  std::vector<int32_t> encode(std::string_view, Specials) const override { return {}; }
  std::string decode(std::span<const int32_t>, bool) const override { return ""; }
  std::string token_bytes(int32_t) const override { return ""; }
  std::string token_text(int32_t id) const override { return all_.at(static_cast<size_t>(id)); }
  std::optional<int32_t> find(std::string_view text) const override {
    for (size_t id = 0; id < all_.size(); ++id)
      if (all_[id] == text) return static_cast<int32_t>(id);
    return std::nullopt;
  }
  bool is_special(int32_t) const override { return true; }
  int64_t size() const override { return std::ssize(all_); }
  std::string hash() const override { return "named"; }

 private:
  std::vector<std::string> all_;
};

OrderedJson answer_by_name(const OrderedJson& line) {
  const NamedTokens tokenizer(line["tokens"]);
  std::string text;
  std::vector<std::pair<std::string, std::string>> named;
  for (const auto& [name, source] : line["named"].items())
    if (name == "default") text = source.get<std::string>();
    else named.emplace_back(name, source.get<std::string>());
  OrderedJson answers = OrderedJson::array();
  for (const auto& job : line["jobs"]) {
    try {
      OrderedJson object = {{"messages", job["messages"]}};
      object.update(job["beside"]);
      Record record;
      fill_from_json(Json::parse(object.dump()), object.dump(), "messages", "learn", record);
      const auto& chat = choose_chat_template({job["template"]}, OwnTemplates{text, named}, tokenizer);
      answers.push_back({{"text", render_text(chat, record.messages, job["header"].get<bool>())}});
    } catch (const Error& error) { answers.push_back({{"problem", error.what()}}); }
  }
  return answers;
}

OrderedJson answer(const OrderedJson& line) {
  if (line.contains("named")) return answer_by_name(line);
  std::vector<std::pair<std::string, std::string>> tokens;
  for (const auto& [name, spelling] : line["tokens"].items()) tokens.emplace_back(name, spelling);
  std::vector<RenderJob> jobs;
  for (const auto& one : line["jobs"]) {
    RenderJob job;
    for (const auto& message : one["messages"]) job.messages.push_back(message.dump());
    const auto beside = one["beside"].dump();
    job.beside = beside.substr(1, beside.size() - 2);
    job.wanted = {{static_cast<uint32_t>(job.messages.size()), one["header"].get<bool>()}};
    jobs.push_back(std::move(job));
  }
  OrderedJson answers = OrderedJson::array();
  try {
    const TemplateEngine engine(line["source"], tokens);
    for (const auto& found : engine.render(jobs)) {
      std::string text;
      for (const auto& part : found[0].parts)
        for (const char c : part.text)  // without what marks {% generation %}
          if (part.given || (c != '\x11' && c != '\x12')) text += c;
      answers.push_back(found[0].problem.empty() ? OrderedJson{{"text", text}}
                                                 : OrderedJson{{"problem", found[0].problem}});
    }
  } catch (const Error& error) {
    for (size_t i = answers.size(); i < jobs.size(); ++i) answers.push_back({{"problem", error.what()}});
  }
  return answers;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);)
    fmt::print("{}\n",
               answer(OrderedJson::parse(line)).dump(-1, ' ', true, OrderedJson::error_handler_t::replace));
  return 0;
}
