#include "http/openai.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "ops/workers.h"

namespace retort {
namespace {

constexpr const char* kCompletions = "/completions";
constexpr const char* kChat = "/chat/completions";
constexpr const char* kOtherTokens =
    "a teacher with other tokens can write answers instead (teacher.answers)";

const Json* member(const Json& object, const char* name) {
  const auto found = object.is_object() ? object.find(name) : object.end();
  return !object.is_object() || found == object.end() || found->is_null() ? nullptr : &*found;
}

// Likeliest first, each id once, at most `top`.
TopRow sorted_row(std::vector<std::pair<float, int32_t>> entries, int64_t top) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  TopRow row;
  for (const auto& [log_p, id] : entries) {
    if (static_cast<int64_t>(row.ids.size()) == top) break;
    if (std::find(row.ids.begin(), row.ids.end(), id) != row.ids.end()) continue;
    row.ids.push_back(id);
    row.log_p.push_back(log_p);
  }
  return row;
}

[[noreturn]] void other_token(const Sample& sample, size_t at, std::string_view there,
                              const Tokenizer& tokenizer) {
  throw RecipeError(
      fmt::format("teacher: the server cuts {} into other tokens than the student: token {} is '{}' there "
                  "and '{}' here; {}",
                  printable(sample.id), at + 1, printable(there),
                  printable(tokenizer.decode(std::span(sample.tokens).subspan(at, 1))), kOtherTokens));
}

}  // namespace

Rows rows_of_prompt_logprobs(const Json& choice, const Sample& sample, int64_t top, const TokenNames& names,
                             const std::string& place) {
  const auto* list = member(choice, "prompt_logprobs");
  if (!list || !list->is_array() || list->size() != sample.tokens.size())
    corrupt(
        place, "prompt_logprobs",
        fmt::format("expected one entry for each of the {} tokens of {}, found {}", sample.tokens.size(),
                    printable(sample.id), list && list->is_array() ? std::to_string(list->size()) : "none"));
  Rows rows(sample.tokens.size());
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    const auto& entry = list->at(i);
    if (!entry.is_object())
      corrupt(place, "prompt_logprobs", fmt::format("entry {} of {} is no object", i, printable(sample.id)));
    std::vector<std::pair<float, int32_t>> entries;
    for (const auto& [key, value] : entry.items()) {
      int32_t id = -1;
      const auto* log_p = member(value, "logprob");
      if (std::from_chars(key.data(), key.data() + key.size(), id).ptr != key.data() + key.size() || id < 0 ||
          !log_p || !log_p->is_number())
        corrupt(place, "prompt_logprobs",
                fmt::format("entry {} of {} holds '{}'; expected token ids with a logprob", i,
                            printable(sample.id), printable(key)));
      const auto* text = member(value, "decoded_token");
      if (!names.knows(id) && text && *text == "")
        continue;  // a row of padding behind the tokens (Qwen's matrices have some): stays in the rest
      if (!names.knows(id) || (text && text->is_string() && !names.may_be(text->get<std::string>(), id)))
        throw RecipeError(
            fmt::format("teacher: the server's token {} is '{}', the student's '{}'; {}", id,
                        text && text->is_string() ? printable(text->get<std::string>()) : "another one",
                        names.knows(id) ? printable(names.text_of(id)) : "is none", kOtherTokens));
      entries.emplace_back(log_p->get<float>(), id);
    }
    rows[i - 1] = sorted_row(std::move(entries), top);
  }
  return rows;
}

EchoRows rows_of_echo(const Json& choice, const SentText& sent, int64_t top, const TokenNames& names,
                      const std::string& place) {
  const auto& sample = sent.sample;
  const auto* logprobs = member(choice, "logprobs");
  const auto* tokens = logprobs ? member(*logprobs, "tokens") : nullptr;
  const auto* own = logprobs ? member(*logprobs, "token_logprobs") : nullptr;
  const auto* likeliest = logprobs ? member(*logprobs, "top_logprobs") : nullptr;
  if (!tokens || !tokens->is_array() || !likeliest || !likeliest->is_array() ||
      likeliest->size() != tokens->size())
    corrupt(place, "logprobs", "expected tokens and as many top_logprobs");
  const auto name_at = [&](size_t at) {
    if (!tokens->at(at).is_string())
      corrupt(place, "logprobs.tokens", fmt::format("entry {} is no text", at));
    return tokens->at(at).get<std::string>();
  };
  // `id`: the token that stands there. Its text may be that of no token or of several (control tokens have
  // none), but its own log-probability is known.
  const auto row_at = [&](size_t at, std::optional<int32_t> id = std::nullopt) {
    std::vector<std::pair<float, int32_t>> entries;
    if (id && own && own->is_array() && own->size() == tokens->size() && own->at(at).is_number())
      entries.emplace_back(own->at(at).get<float>(), *id);
    const auto& entry = likeliest->at(at);
    if (entry.is_null()) return TopRow{};
    if (!entry.is_object()) corrupt(place, "logprobs.top_logprobs", fmt::format("entry {} is no object", at));
    for (const auto& [name, log_p] : entry.items()) {
      if (!log_p.is_number())
        corrupt(place, "logprobs.top_logprobs",
                fmt::format("entry {} holds '{}' without a number", at, printable(name)));
      if (const auto named = names.find(name))
        entries.emplace_back(log_p.get<float>(), *named);  // others stay in the rest
    }
    return sorted_row(std::move(entries), top);
  };

  EchoRows found;
  found.rows.resize(sample.tokens.size());
  size_t at = 0;  // in the server's list
  for (size_t i = 0; i < sample.tokens.size(); ++i) {
    const auto id = sample.tokens[i];
    if (at >= tokens->size() || !names.may_be(name_at(at), id)) {
      if (names.tokenizer().bos == id) continue;  // llama-cpp-python leaves BOS tokens out of the list
      other_token(sample, i, at < tokens->size() ? name_at(at) : "the end", names.tokenizer());
    }
    if (i == 0) found.leading = true;
    else found.rows[i - 1] = row_at(at, id);
    ++at;
  }
  // What was generated behind the text (temperature 0) is the likeliest token of its own row. A server that
  // pairs tokens with the distribution after them has no row for it.
  const auto* whole = member(choice, "text");
  if (at < tokens->size()) {
    const auto row = row_at(at);
    found.checked = !row.ids.empty() && names.may_be(name_at(at), row.ids[0]);
    if (!found.checked && !row.ids.empty() && names.find(name_at(at)))
      corrupt(place, "logprobs",
              fmt::format("after {} the generated token is not the likeliest of its row: the server pairs "
                          "tokens with the wrong distributions; use one that gives prompt_logprobs",
                          printable(sample.id)));
  } else if (whole && whole->is_string() && whole->get<std::string>().size() > sent.text.size()) {
    corrupt(place, "logprobs",
            fmt::format("ends before the token that was generated after {}: the server pairs tokens with the "
                        "distributions after them (llama-cpp-python does, for texts without BOS)",
                        printable(sample.id)));
  }
  return found;
}

OpenAiTeacher::OpenAiTeacher(const TeacherSpec& spec, const Tokenizer& student)
    : spec_(spec.server), tokenizer_(student), names_(student), client_(spec.url, spec.server) {
  if (spec_.asks == "prompt_logprobs") way_ = Way::prompt_logprobs;
  if (spec_.asks == "echo") way_ = Way::echo;
  model_ = choose_model();
}

std::string OpenAiTeacher::choose_model() {
  const auto reply = client_.get("/models");
  std::vector<std::string> models;
  std::string listed;
  const auto* data = reply.ok() ? member(reply.json, "data") : nullptr;
  if (data && data->is_array()) {
    for (const auto& entry : *data)
      if (const auto* id = member(entry, "id"); id && id->is_string())
        models.push_back(id->get<std::string>());
  }
  for (const auto& name : models) listed += (listed.empty() ? "" : ", ") + printable(name);
  if (reply.status == 401 || reply.status == 403) refused("/models", reply);
  if (spec_.model.empty()) {
    if (models.size() == 1) return models[0];
    throw RecipeError(fmt::format("teacher.server.model: missing; {} {}", client_.address("/models"),
                                  models.empty() ? "lists no models" : "lists " + listed));
  }
  // A server that has no list is believed; one that has, though it may answer with another model instead, is
  // not.
  if (models.empty() || std::find(models.begin(), models.end(), spec_.model) != models.end())
    return spec_.model;
  const auto near = nearest(spec_.model, models);
  throw RecipeError(fmt::format("teacher.server.model: {} has no model '{}'{}; it lists {}",
                                client_.address(""), printable(spec_.model),
                                near.empty() ? "" : fmt::format("; did you mean '{}'?", printable(near)),
                                listed));
}

void OpenAiTeacher::refused(const std::string& path, const HttpReply& reply) const {
  const char* advice = reply.status == 401 || reply.status == 403 ? "; check teacher.server.token_file"
                       : reply.status == 404 ? "; check teacher.url and teacher.server.model"
                                             : "";
  throw RecipeError(fmt::format("{} refuses ({}): {}{}", client_.address(path), reply.status,
                                reply.message.empty() ? "no reason given" : reply.message, advice));
}

// One a prompt, in the order of the prompts.
std::vector<Json> OpenAiTeacher::choices_of(const Json& reply, size_t count, const std::string& path) const {
  const auto place = client_.address(path);
  const auto* choices = member(reply, "choices");
  if (!choices || !choices->is_array() || choices->size() != count)
    corrupt(
        place, "choices",
        fmt::format("expected {}, found {}{}", count,
                    choices && choices->is_array() ? std::to_string(choices->size()) : "none",
                    count > 1 ? "; does the server take several texts at once? (teacher.server.batch)" : ""));
  std::vector<Json> sorted(count);
  for (size_t i = 0; i < count; ++i) {
    const auto* index = member(choices->at(i), "index");
    const auto place_of = index && index->is_number_unsigned() ? index->get<size_t>() : i;
    if (place_of >= count || !sorted[place_of].is_null())
      corrupt(place, "choices", "their indices are not those of the prompts");
    sorted[place_of] = choices->at(i);
  }
  return sorted;
}

// False when, while trying, the server turns out not to do this.
bool OpenAiTeacher::by_ids(std::span<const Sample> samples, int64_t top, std::span<std::vector<TopRow>> rows,
                           bool trying) {
  Json prompts = Json::array();
  for (const auto& sample : samples) prompts.push_back(sample.tokens);
  const auto reply = client_.post(kCompletions,
                                  {{"model", model_},
                                   {"prompt", prompts},
                                   {"max_tokens", 1},
                                   {"temperature", 0},
                                   {"prompt_logprobs", top}},
                                  trying ? ServerFault::refuses : ServerFault::passes);
  if (!reply.ok()) {
    const bool not_understood = reply.status == 400 || reply.status == 422 || reply.status >= 500;
    // vLLM refuses more log-probabilities than its --max-logprobs in the same way: that is not to be hidden
    // by another try.
    if (trying && not_understood && reply.message.find("max") == std::string::npos) return false;
    refused(kCompletions, reply);
  }
  const auto choices = choices_of(reply.json, samples.size(), kCompletions);
  if (trying && !member(choices[0], "prompt_logprobs")) return false;
  for (size_t i = 0; i < samples.size(); ++i)
    rows[i] = rows_of_prompt_logprobs(choices[i], samples[i], top, names_, client_.address(kCompletions));
  return true;
}

std::vector<Json> OpenAiTeacher::ask_echo(const std::vector<std::string>& texts, int64_t top) {
  const auto reply = client_.post(kCompletions, {{"model", model_},
                                                 {"prompt", texts.size() == 1 ? Json(texts[0]) : Json(texts)},
                                                 {"max_tokens", 1},
                                                 {"temperature", 0},
                                                 {"echo", true},
                                                 {"logprobs", top},
                                                 {"return_tokens_as_token_ids", true},
                                                 {"repeat_penalty", 1.0}});
  if (!reply.ok()) refused(kCompletions, reply);
  auto choices = choices_of(reply.json, texts.size(), kCompletions);
  const auto* logprobs = member(choices[0], "logprobs");
  const auto* whole = member(choices[0], "text");
  if (!logprobs || !member(*logprobs, "top_logprobs") || !whole || !whole->is_string() ||
      !whole->get<std::string>().starts_with(texts[0].substr(0, 64)))
    throw RecipeError(
        fmt::format("{}: the server gives no log-probabilities of texts that it is given (neither "
                    "prompt_logprobs nor echo); it can write answers instead (teacher.answers)",
                    client_.address(kCompletions)));
  return choices;
}

// The server puts a BOS before a text where the model's convention has one.
std::string OpenAiTeacher::text_of(const Sample& sample) const {
  const bool own =
      tokenizer_.add_bos && tokenizer_.bos && !sample.tokens.empty() && sample.tokens[0] == *tokenizer_.bos;
  return tokenizer_.decode(std::span(sample.tokens).subspan(own ? 1 : 0));
}

// A beginning of the sample, after which the model does not stop, shows whether tokens stand beside the right
// distributions.
void OpenAiTeacher::check_pairing(const Sample& sample, int64_t top, bool leading) {
  if (pairing_is_right_[leading]) return;
  for (const size_t part : {2, 3, 4, 5, 6}) {
    const auto size = sample.tokens.size() * (part - 1) / part;
    if (size < 2) continue;
    Sample beginning;
    beginning.tokens.assign(sample.tokens.begin(), sample.tokens.begin() + static_cast<std::ptrdiff_t>(size));
    beginning.id = fmt::format("the first {} tokens of {}", size, sample.id);
    const auto text = text_of(beginning);
    if (tokenizer_.encode(text, Specials::as_tokens) !=
        std::vector(beginning.tokens.begin() + (tokenizer_.add_bos && tokenizer_.bos == beginning.tokens[0]),
                    beginning.tokens.end()))
      continue;  // cut inside a word
    const auto found =
        rows_of_echo(ask_echo({text}, top)[0], {beginning, text}, top, names_, client_.address(kCompletions));
    if (found.checked && found.leading == leading) {
      pairing_is_right_[leading] = true;
      return;
    }
  }
  corrupt(client_.address(kCompletions), "logprobs",
          fmt::format("no beginning of {} shows whether tokens stand beside the distributions before them; "
                      "use a server that gives prompt_logprobs",
                      printable(sample.id)));
}

void OpenAiTeacher::by_text(std::span<const Sample> samples, int64_t top,
                            std::span<std::vector<TopRow>> rows) {
  std::vector<std::string> texts;
  for (const auto& sample : samples) texts.push_back(text_of(sample));
  const auto choices = ask_echo(texts, top);
  for (size_t i = 0; i < samples.size(); ++i) {
    auto found = rows_of_echo(choices[i], {samples[i], texts[i]}, top, names_, client_.address(kCompletions));
    if (found.checked) pairing_is_right_[found.leading] = true;
    check_pairing(samples[i], top, found.leading);
    rows[i] = std::move(found.rows);
  }
}

std::vector<std::vector<TopRow>> OpenAiTeacher::score(std::span<const Sample> samples, int64_t top) {
  std::vector<std::vector<TopRow>> rows(samples.size());
  size_t done = 0;
  if (way_ == Way::unknown) {
    way_ = by_ids(samples.first(1), top, std::span(rows).first(1), true) ? Way::prompt_logprobs : Way::echo;
    done = way_ == Way::prompt_logprobs ? 1 : 0;
  }
  if (way_ == Way::echo && names_.texts_are_ambiguous())
    throw RecipeError(
        "teacher: this server names tokens by their text, which does not tell the tokens of a SentencePiece "
        "model apart; use one that gives prompt_logprobs (vLLM), or teacher.answers");
  const auto left = samples.size() - done, batch = static_cast<size_t>(spec_.batch);
  run_workers(spec_.concurrent, static_cast<int64_t>((left + batch - 1) / batch), [&](int64_t request) {
    const auto first = done + static_cast<size_t>(request) * batch,
               count = std::min(batch, samples.size() - first);
    const auto some = samples.subspan(first, count);
    const auto into = std::span(rows).subspan(first, count);
    if (way_ == Way::prompt_logprobs) by_ids(some, top, into, false);
    else by_text(some, top, into);
  });
  return rows;
}

std::vector<ServedAnswer> OpenAiTeacher::answer(std::span<const AnswerRequest> requests,
                                                const AnswersSpec& spec) {
  std::vector<ServedAnswer> answers(requests.size());
  run_workers(spec_.concurrent, static_cast<int64_t>(requests.size()), [&](int64_t i) {
    const auto& request = requests[static_cast<size_t>(i)];
    Json messages = Json::array();
    for (const auto& message : request.prompt)
      messages.push_back({{"role", message.role}, {"content", message.content}});
    const auto reply = client_.post(kChat, {{"model", model_},
                                            {"messages", messages},
                                            {"max_tokens", spec.max_tokens},
                                            {"temperature", spec.temperature},
                                            {"top_p", spec.top_p},
                                            {"seed", request.seed}});
    if (!reply.ok()) refused(kChat, reply);
    const auto choice = choices_of(reply.json, 1, kChat)[0];
    const auto* message = member(choice, "message");
    const auto* content = message ? member(*message, "content") : nullptr;
    const auto* reason = member(choice, "finish_reason");
    if (!message || (content && !content->is_string()))
      corrupt(client_.address(kChat), "choices", "expected a message with text");
    answers[static_cast<size_t>(i)] = {content ? content->get<std::string>() : "",
                                       reason && reason->is_string() ? reason->get<std::string>() : ""};
  });
  return answers;
}

bool has_network_code() { return true; }

std::unique_ptr<ServedTeacher> connect_teacher(const TeacherSpec& spec, const Tokenizer& student) {
  return std::make_unique<OpenAiTeacher>(spec, student);
}

}  // namespace retort
