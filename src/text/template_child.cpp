#include "text/template_child.h"

#include <jinja/lexer.h>
#include <jinja/parser.h>
#include <jinja/runtime.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "text/template_engine.h"
#include "text/template_turns.h"

namespace retort {
namespace {

// A number of the file, which is written as it is spelled there: 1.50, or an identifier of 23 digits.
struct SpelledNumber : jinja::value_float_t {
  SpelledNumber(double number, std::string text) : jinja::value_float_t(number), spelling(std::move(text)) {}
  jinja::string as_string() const override { return spelling; }
  std::string spelling;
};

// Builds the interpreter's values from JSON. All texts are marked as given but for the role of a message,
// which templates make control tokens of.
class ValueBuilder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueBuilder(bool frozen) : frozen_(frozen) {}
  jinja::value root = nullptr;

  bool null() override {
    static const jinja::value none = jinja::mk_val<jinja::value_none>();
    return place(none);
  }
  bool boolean(bool value) override {
    static const jinja::value yes = jinja::mk_val<jinja::value_bool>(true),
                              no = jinja::mk_val<jinja::value_bool>(false);
    return place(value ? yes : no);
  }
  bool number_integer(number_integer_t value) override {
    return place(jinja::mk_val<jinja::value_int>(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (value > static_cast<uint64_t>(INT64_MAX))
      return place(std::make_shared<SpelledNumber>(static_cast<double>(value), std::to_string(value)));
    return place(jinja::mk_val<jinja::value_int>(static_cast<int64_t>(value)));
  }
  bool number_float(number_float_t value, const string_t& spelled) override {
    return place(std::make_shared<SpelledNumber>(value, spelled));
  }
  bool string(string_t& value) override {
    auto text = jinja::mk_val<jinja::value_string>(value);
    if (open_.size() != 1 || key_ != "role") text->mark_input();
    return place(text);
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(jinja::mk_val<jinja::value_object>()); }
  bool start_array(std::size_t) override { return open(jinja::mk_val<jinja::value_array>()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    key_ = name;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    throw std::runtime_error(std::string("a message is no JSON: ") + error.what());
  }

 private:
  bool place(jinja::value value) {
    if (open_.empty()) {
      root = std::move(value);
    } else if (auto* list = jinja::cast_val<jinja::value_array>(open_.back())) {
      list->push_back(std::move(value));
    } else {
      open_.back()->insert(name_of_member(), value);
    }
    return true;
  }
  // Few names are in most records; nothing changes a text in place. Names of members of a message are the
  // format's own.
  const jinja::value& name_of_member() {
    constexpr size_t kMostNames = 4096;
    static std::unordered_map<std::string, jinja::value> outer, inner;
    auto& names = open_.size() > 1 ? inner : outer;
    if (names.size() > kMostNames) names.clear();
    auto& name = names[key_];
    if (!name) {
      auto made = jinja::mk_val<jinja::value_string>(key_);
      if (open_.size() > 1) made->mark_input();
      name = std::move(made);
    }
    return name;
  }
  bool open(jinja::value container) {
    place(container);
    open_.push_back(std::move(container));
    return true;
  }
  bool close() {
    open_.back()->frozen = frozen_;
    open_.pop_back();
    return true;
  }
  bool frozen_;
  std::vector<jinja::value> open_;
  std::string key_;
};

jinja::value value_of(std::string_view json, bool frozen) {
  ValueBuilder builder(frozen);
  nlohmann::json::sax_parse(json.begin(), json.end(), &builder);
  return builder.root;
}

bool read_all(char* data, size_t size) {
  while (size > 0) {
    const auto got = ::read(4, data, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    data += got, size -= static_cast<size_t>(got);
  }
  return true;
}

void write_all(std::string_view text) {
  while (!text.empty()) {
    const auto wrote = ::write(3, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) ::_exit(0);
    text.remove_prefix(static_cast<size_t>(wrote));
  }
}

class Request {
 public:
  explicit Request(std::string_view bytes) : bytes_(bytes) {}
  uint32_t number() {
    uint32_t value = 0;
    std::memcpy(&value, bytes_.data(), sizeof value);
    bytes_.remove_prefix(sizeof value);
    return value;
  }
  std::string_view text() {
    const auto size = number();
    const auto value = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return value;
  }

 private:
  std::string_view bytes_;
};

void put(std::string& to, std::string_view text) {
  const auto size = static_cast<uint32_t>(text.size());
  to.append(reinterpret_cast<const char*>(&size), sizeof size);
  to += text;
}

// Of the time that a rendering takes; SIGPROF ends the process.
void limit_time(int seconds) {
  const itimerval limit{{0, 0}, {seconds, 0}};
  ::setitimer(ITIMER_PROF, &limit, nullptr);
}

// One line of what the interpreter says in several: where in the template, and what.
std::string in_one_line(std::string_view what) {
  if (what.find("bad_alloc") != what.npos || what.find("length_error") != what.npos)
    return "needs more memory than a template may use";
  std::string place;
  if (const auto at = what.find(" at line "); at != what.npos) {
    const auto from = at + 4;
    place = std::string(what.substr(from, what.find(" in source", from) - from)) + ": ";
  }
  if (const auto error = what.rfind("Error: "); error != what.npos) what.remove_prefix(error + 7);
  constexpr std::string_view kRaised = "Jinja Exception: ";
  if (what.starts_with(kRaised)) return std::string(what.substr(kRaised.size()));
  return place + std::string(what.substr(0, what.find('\n')));
}

// 2024-07-26, noon: the day that Llama's templates name where they are told none. A run of tomorrow renders
// as one of today.
constexpr std::time_t kDay = 1721995200;

class Template {
 public:
  Template(std::string_view source, const std::vector<std::pair<std::string, std::string>>& tokens,
           Beginnings beginnings)
      : tokens_(tokens),
        changes_values_(source.find("append") != source.npos || source.find("pop") != source.npos) {
    try {
      jinja::lexer lexer;
      program_.emplace(jinja::parse_from_tokens(lexer.tokenize(std::string(source))));
      source_ = std::make_shared<std::string>(source);
      if (beginnings == Beginnings::shared && !changes_values_) turns_.emplace(*program_);
    } catch (const std::exception& error) {
      problem_ = "cannot be read as Jinja: " + in_one_line(error.what());
    }
  }

  struct Conversation {
    std::vector<jinja::value> messages;
    jinja::value beside;
  };

  jinja::value read(std::string_view json) const { return value_of(json, !changes_values_); }
  // Tools are often those of the record before.
  jinja::value read_beside(std::string_view json) {
    if (!beside_ || changes_values_ || json != last_beside_) {
      last_beside_ = json;
      beside_ = read("{" + last_beside_ + "}");
    }
    return beside_;
  }

  // Appends the answer to the first of what is wanted. Where that is all messages, `found` becomes the
  // answers to those others which its run proves.
  void render_first(const Conversation& conversation, const std::vector<RenderJob::Wanted>& wanted,
                    std::vector<std::string>& found, std::string& out) const {
    found.assign(wanted.size(), "");
    const auto all = static_cast<uint32_t>(conversation.messages.size());
    std::vector<Beginning> others;
    std::vector<size_t> which;
    for (size_t w = 1; w < wanted.size(); ++w)
      if (wanted[w].messages > 0) {
        others.push_back({wanted[w].messages, wanted[w].reply_header});
        which.push_back(w);
      }
    if (!program_ || !turns_ || !turns_->possible() || others.empty() || all == 0 ||
        wanted[0].messages != all)
      return render(conversation, wanted[0].messages, wanted[0].reply_header, out);
    const auto whole = turns_->run(
        conversation.messages, wanted[0].reply_header,
        [&](jinja::context& context, const jinja::value& messages) { fill(context, messages, conversation); },
        others);
    if (!whole) return render(conversation, all, wanted[0].reply_header, out);
    const auto begin = out.size();
    try {
      put_answer(*whole, out);
      for (size_t i = 0; i < others.size(); ++i)
        if (others[i].parts) put_answer(*others[i].parts, found[which[i]]);
    } catch (const std::bad_alloc&) {
      out.resize(begin);
      found.assign(wanted.size(), "");
      fail(in_one_line("bad_alloc"), out);
    }
  }

  // Appends the answer.
  void render(const Conversation& conversation, uint32_t count, bool reply_header, std::string& out) const {
    if (!program_) return fail(problem_, out);
    const auto begin = out.size();
    try {
      jinja::context context;
      auto messages = jinja::mk_val<jinja::value_array>();
      for (uint32_t i = 0; i < count; ++i) messages->push_back(conversation.messages[i]);
      context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(reply_header));
      fill(context, messages, conversation);
      put_answer(jinja::runtime(context).render(*program_)->val_str.parts, out);
    } catch (const std::bad_alloc&) {
      out.resize(begin);
      fail(in_one_line("bad_alloc"), out);
    } catch (const std::exception& error) {
      out.resize(begin);
      fail(in_one_line(error.what()), out);
    }
  }

 private:
  void fill(jinja::context& context, const jinja::value& messages, const Conversation& conversation) const {
    context.src = source_;
    context.current_time = kDay;
    context.set_val("messages", messages);
    context.set_val("tools", jinja::mk_val<jinja::value_none>());
    context.set_val("documents", jinja::mk_val<jinja::value_none>());
    for (const auto& [name, spelling] : tokens_)
      context.set_val(name, jinja::mk_val<jinja::value_string>(spelling));
    for (const auto& [name, value] : conversation.beside->as_ordered_object()) context.set_val(name, value);
  }
  static void put_answer(const TemplateParts& parts, std::string& out) {
    out += 'r';
    if (put_parts(parts, out) > kLongestRendering) ::_exit(kTemplateTooLong);
    out += '\0';
  }
  static void fail(std::string_view problem, std::string& out) {
    out += 'p';
    put(out, problem.substr(0, 2000));
  }
  std::vector<std::pair<std::string, std::string>> tokens_;
  std::optional<jinja::program> program_;
  std::optional<TemplateTurns> turns_;
  std::shared_ptr<std::string> source_;
  std::string problem_, last_beside_;
  jinja::value beside_ = nullptr;
  bool changes_values_;  // it may write into what it was given, which then is nobody else's
};

}  // namespace

void serve_template(std::string_view source, const std::vector<std::pair<std::string, std::string>>& tokens,
                    int seconds, Beginnings beginnings, TemplateProgress& progress) {
  limit_time(seconds);
  Template chat(source, tokens, beginnings);
  std::string bytes, out;
  uint64_t size = 0;
  while (read_all(reinterpret_cast<char*>(&size), sizeof size)) {
    bytes.resize(size);
    if (!read_all(bytes.data(), size)) break;
    Request request(bytes);
    progress.begun = 0;
    for (auto jobs = request.number(); jobs > 0; --jobs) {
      Template::Conversation conversation;
      for (auto count = request.number(); count > 0; --count)
        conversation.messages.push_back(chat.read(request.text()));
      conversation.beside = chat.read_beside(request.text());
      std::vector<RenderJob::Wanted> wanted(request.number());
      for (auto& one : wanted) {
        one.messages = request.number();
        one.reply_header = request.number() != 0;
      }
      std::vector<std::string> found;
      for (size_t w = 0; w < wanted.size(); ++w) {
        ++progress.begun;
        limit_time(seconds);
        if (w == 0) {
          chat.render_first(conversation, wanted, found, out);
        } else if (!found[w].empty()) {
          out += found[w];
          ++progress.shared;
        } else {
          chat.render(conversation, wanted[w].messages, wanted[w].reply_header, out);
        }
        if (out.size() > (size_t{1} << 20)) write_all(std::exchange(out, {}));
      }
    }
    limit_time(0);
    write_all(std::exchange(out, {}));
  }
  ::_exit(0);
}

}  // namespace retort
