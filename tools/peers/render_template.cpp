// What retort's chat templates write, for tools/peers/check_templates.py to compare with transformers:
// answers each line of standard input, {source, tokens, jobs: [{messages, beside, header}]}, with
// [{text} or {problem}, ...].
#include <fmt/format.h>

#include <iostream>

#include "base/error.h"
#include "base/json.h"
#include "text/template_engine.h"

namespace {

using namespace retort;

OrderedJson answer(const OrderedJson& line) {
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
