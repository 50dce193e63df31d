"""Values for the slots: names, places, codes, numbers, words, and words that do not exist.

Copying must work for every token, so a good share of the values is glued from pieces of nano's
vocabulary ("pseudo-words"). What the evaluation uses is kept out of training by `held_out`: a
value whose digest falls in the last tenth is only ever drawn with `split="test"`.
"""

from __future__ import annotations

import random
import string
import zlib
from functools import cache
from pathlib import Path
from typing import Any

FIRST = """Ada Alan Alice Amara Amir Ana Anders Anita Arjun Astrid Ben Bianca Boris Bruno Carla Carlos
Chen Chloe Clara Daniel Daria David Dina Diego Edith Elena Eli Emeka Emil Emma Erik Esther Eva Fatima
Felix Finn Fiona Frida Gabriel Grace Greta Hana Hannah Harold Hassan Helen Henry Hugo Ida Igor Ines
Ingrid Irene Isaac Ivan Jack Jamal James Jana Jasper Joan Jonas Josef Julia Kai Karim Kate Kenji
Lars Laura Lea Leo Lena Liam Lina Louis Lucia Luis Luke Maja Marco Maria Mark Marta Maya Mei Mia
Milan Mina Mohamed Mona Nadia Naomi Nell Nina Noah Nora Oleg Olga Omar Oscar Otto Paul Paula Pedro
Peter Petra Priya Quinn Rafael Rania Ravi Rita Rosa Ruth Sam Samira Sara Sean Simon Sofia Stefan
Sven Tara Teresa Theo Thomas Tomas Uma Vera Victor Viola Walter Wanda Wei Xavier Yara Yusuf Zoe""".split()
LAST = """Abbott Adams Ahmed Albrecht Allen Andersen Baker Barnes Becker Bell Berger Blake Bond Brandt
Brooks Brown Byrne Carter Castro Chan Chavez Clark Cole Cooper Costa Cruz Dahl Davies Diaz Doyle
Dubois Dunn Eklund Ellis Evans Farah Fischer Fleming Flores Ford Foster Fox Frost Garcia Gibson
Gomez Graham Grant Gray Green Gupta Haas Hale Hansen Hart Hayes Hill Holm Hughes Hunt Ito Ivanova
Jensen Johnson Jones Kaya Keller Kelly Khan Kim King Klein Knight Kowalski Kumar Lang Larsen Lee
Lewis Lind Lopez Lund Marsh Martin Mason Meyer Mills Moore Morgan Moreau Mueller Murphy Nash Nelson
Nguyen Novak Okafor Olsen Owens Park Patel Perez Petrov Pike Popov Porter Price Quist Ramos Reed
Reyes Rhodes Rivera Roberts Rossi Roy Russo Saito Salim Santos Sato Schmidt Shah Shaw Silva Singh
Smith Stone Suzuki Swan Tanaka Taylor Torres Turner Vance Vargas Vogel Wagner Walsh Wang Ward Webb
Weber West White Wong Wood Yamada Young Zeller Zhang""".split()
CITIES = """Aberdeen Accra Adelaide Algiers Amsterdam Ankara Antwerp Athens Auckland Austin Baku Bangkok
Barcelona Basel Beijing Beirut Belfast Belgrade Bergen Berlin Bern Bilbao Bogota Bologna Bonn
Bordeaux Boston Bremen Brisbane Bristol Brussels Bucharest Budapest Buffalo Cairo Calgary Cambridge
Canberra Caracas Cardiff Casablanca Chennai Chicago Cologne Copenhagen Cork Dakar Dallas Damascus
Delhi Denver Detroit Dhaka Dresden Dubai Dublin Durban Edinburgh Essen Florence Frankfurt Galway
Gdansk Geneva Genoa Ghent Glasgow Gothenburg Graz Grenoble Hamburg Hanoi Havana Helsinki Houston
Istanbul Izmir Jakarta Jerusalem Kampala Karachi Kathmandu Kigali Kingston Kobe Krakow Kyiv Kyoto
Lagos Lahore Leeds Leipzig Lille Lima Lisbon Liverpool Ljubljana London Luanda Lusaka Lyon Madrid
Malaga Manchester Manila Marseille Melbourne Memphis Miami Milan Minsk Monaco Montreal Moscow Mumbai
Munich Nairobi Nantes Naples Nice Osaka Oslo Ottawa Oxford Palermo Paris Perth Phoenix Pisa Portland
Porto Prague Pretoria Quebec Quito Reykjavik Riga Rome Rotterdam Salzburg Santiago Sarajevo Seattle
Seoul Seville Shanghai Singapore Skopje Sofia Split Stockholm Stuttgart Sydney Taipei Tallinn Tampa
Tbilisi Tehran Tokyo Toronto Trieste Tripoli Tromso Tunis Turin Utrecht Valencia Vancouver Venice
Vienna Vilnius Warsaw Wellington Winnipeg Yerevan York Zagreb Zurich|New York|San Francisco|Los Angeles
|Hong Kong|Kuala Lumpur|Buenos Aires|Cape Town|Mexico City|Rio de Janeiro|Tel Aviv|The Hague|Salt Lake City
|Addis Ababa|St. Gallen|San Diego|New Orleans|Abu Dhabi|Ho Chi Minh City|Porto Alegre|Las Vegas"""
COUNTRIES = """Albania Algeria Angola Argentina Australia Austria Belgium Bolivia Brazil Bulgaria Canada
Chile China Colombia Croatia Cuba Cyprus Denmark Ecuador Egypt Estonia Ethiopia Finland France Georgia
Germany Ghana Greece Hungary Iceland India Indonesia Iran Iraq Ireland Israel Italy Jamaica Japan
Jordan Kenya Kuwait Laos Latvia Lebanon Lithuania Malaysia Mali Malta Mexico Morocco Nepal Nigeria
Norway Oman Pakistan Panama Peru Poland Portugal Qatar Romania Rwanda Senegal Serbia Slovakia Slovenia
Spain Sudan Sweden Switzerland Syria Thailand Tunisia Turkey Uganda Ukraine Uruguay Vietnam Zambia"""
THINGS = """River Stone Mill Harbour Garden Bridge Tower Lantern Heron Fox Anchor Orchard Meadow Castle
Market Crown Swan Bell Forge Barn Station Theatre Library Museum Chapel Inn Lodge House Gate Square
Park Bay Hill Lake Rock Wood Field Point Arms Table Kitchen Corner Cellar Studio Hall""".split()
ADJECTIVES = """Blue Red Green Golden Silver Old New Little Great Quiet Happy Broken Hidden White Black
Crooked Lucky Merry Wild Lost Rusty Iron Copper Salt Velvet Northern Southern Upper Lower Royal""".split()
PRODUCTS = """lamp desk kettle drill camera tent bike helmet toaster monitor keyboard mouse printer router
headphones backpack jacket boots scarf mug blender vacuum ladder hammer pillow blanket mirror clock
charger tripod speaker projector heater fan freezer stapler notebook umbrella suitcase skateboard""".split()
FOOD = """rice bread pasta soup salad cheese apples bananas oats lentils tofu salmon chicken beans eggs
butter yoghurt honey pizza curry noodles pancakes potatoes carrots onions mushrooms spinach walnuts
chocolate coffee tea cocoa lemonade pears plums figs dates quinoa couscous hummus porridge""".split()
ANIMALS = """dog cat horse cow sheep goat pig hen duck goose rabbit fox wolf bear otter owl eagle heron
salmon trout turtle snake lizard frog bee ant spider whale seal dolphin penguin parrot pony donkey
camel tiger lion zebra giraffe hamster""".split()
COLOURS = """red blue green yellow orange purple pink brown black white grey silver gold violet teal olive
navy maroon cream turquoise crimson amber indigo beige ivory scarlet""".split()
LANGUAGES = """English French German Spanish Italian Portuguese Dutch Swedish Danish Norwegian Finnish Polish
Czech Hungarian Greek Turkish Arabic Hebrew Hindi Urdu Bengali Tamil Thai Korean Japanese Mandarin
Vietnamese Swahili Zulu Welsh Irish Basque Catalan Icelandic""".split()
CURRENCIES = "USD EUR GBP JPY CHF SEK NOK DKK PLN CZK HUF CAD AUD NZD CNY INR BRL MXN ZAR KRW TRY SGD".split()
MONTHS = """January February March April May June July August September October November December""".split()
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
UNITS = "km miles kg pounds metres feet litres gallons grams ounces cm inches celsius fahrenheit".split()
SUFFIXES = "txt pdf csv md json png jpg log py yaml docx xlsx mp3 zip html".split()
STREETS = "Street Road Lane Avenue Way Close Drive Hill Court Square".split()
FIRMS = "Ltd Inc Labs Group Systems Partners Works Foods Motors Bank Energy Media Health".split()


def held_out(value: object) -> bool:
    """Whether a value belongs to the evaluation: one in ten, by a digest."""
    return zlib.crc32(str(value).lower().encode()) % 10 == 9


@cache
def words(split: str) -> tuple[str, ...]:
    """English words for counting and notes, of training or test."""
    lines = (Path(__file__).parent / "words.txt").read_text().split()
    # The chapters' showcase is never trained on.
    return tuple(w for w in lines if held_out(w) == (split == "test") and w != "strawberry")


@cache
def pieces(most: int = 7) -> tuple[str, ...]:
    """Lower-case pieces of nano's vocabulary (of the word list, before there is a vocabulary)."""
    path = Path(__file__).parent / "pieces.txt"
    if path.exists():
        found = path.read_text().split()
        return tuple(piece for piece in found if len(piece) <= most and piece.islower())
    return tuple(sorted({w[i : i + 3] for w in words("train")[:3000] for i in range(len(w) - 2)}))


@cache
def all_pieces() -> tuple[str, ...]:
    """Every piece of nano's vocabulary that is made of letters, with capitals as it has them."""
    path = Path(__file__).parent / "pieces.txt"
    return tuple(path.read_text().split()) if path.exists() else pieces()


@cache
def pool(name: str) -> tuple[str, ...]:
    """A fixed list by its name."""
    lists = {
        "city": CITIES.replace("\n", " ").split("|")[0].split() + CITIES.replace("\n", "").split("|")[1:],
        "country": [*COUNTRIES.split(), "United States", "South Africa", "New Zealand", "Costa Rica"],
        "product": PRODUCTS, "food": FOOD, "animal": ANIMALS, "colour": COLOURS,
        "language": LANGUAGES, "currency": CURRENCIES, "weekday": WEEKDAYS, "month": MONTHS,
        "unit": UNITS, "first_name": FIRST,
    }  # fmt: skip
    return tuple(lists[name])


class Values:
    """Draws values with one random generator, from the training or the test part."""

    def __init__(self, rng: random.Random, split: str = "train"):
        self.rng, self.split = rng, split

    def pick(self, options: Any) -> Any:
        """An option of this split; of any, where the list is too short to be parted."""
        options = list(options)
        if len(options) >= 25:
            mine = [o for o in options if held_out(o) == (self.split == "test")]
            options = mine or options
        return self.rng.choice(options)

    def pseudo(self, most: int = 3) -> str:
        """A word that does not exist, from 1 to `most` pieces of the vocabulary."""
        while True:
            count = self.rng.choices(range(1, most + 1), [2, 5, 3][:most])[0]
            word = "".join(self.rng.choice(pieces()) for _ in range(count))
            if 3 <= len(word) <= 13 and held_out(word) == (self.split == "test"):
                return word

    def word(self) -> str:
        return self.pseudo() if self.rng.random() < 0.3 else self.rng.choice(words(self.split))

    def name(self, known: Any, share: float = 0.35) -> str:
        """A capitalised name: a known one, or (by `share`) a pseudo-word."""
        return self.pseudo().capitalize() if self.rng.random() < share else self.pick(known)

    def integer(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def digits(self, count: int) -> str:
        return "".join(self.rng.choice(string.digits) for _ in range(count))

    def letters(self, count: int) -> str:
        return "".join(self.rng.choice(string.ascii_uppercase) for _ in range(count))

    def draw(self, slot: dict[str, Any]) -> Any:
        """A value for a slot's description (see wordings/README.md)."""
        kind, rng = slot["kind"], self.rng
        if kind == "list":
            return rng.choice(slot["values"])
        if kind == "int":
            return rng.randint(slot["min"], slot["max"])
        if kind == "decimal":
            value = round(rng.uniform(slot["min"], slot["max"]), slot.get("places", 1))
            return int(value) if value == int(value) and rng.random() < 0.2 else value
        return getattr(self, f"_{kind}", lambda: self.pick(pool(kind)))()

    def _first_name(self) -> str:
        return self.name(FIRST)

    def _person(self) -> str:
        first, last = self.name(FIRST), self.name(LAST)
        if self.rng.random() < 0.08:  # full stops that end no sentence
            return self.rng.choice(
                [f"{first[0]}. {last}", f"Dr. {last}", f"{first} {last[0]}. {self.name(LAST)}"]
            )
        return f"{first} {last}"

    def _city(self) -> str:
        if self.rng.random() < 0.06:
            return f"{self.rng.choice(['St.', 'Mt.', 'Ft.', 'Bad', 'Port'])} {self.name(LAST, 0.6)}"
        return self.name(pool("city"))

    def _country(self) -> str:
        return self.name(pool("country"), 0.15)

    def _company(self) -> str:
        base = self.name(LAST, 0.5)
        return f"{base} {self.rng.choice(FIRMS)}" if self.rng.random() < 0.6 else base

    def _place(self) -> str:
        form = self.rng.randrange(4)
        adjective, thing = self.rng.choice(ADJECTIVES), self.rng.choice(THINGS)
        if form == 0:
            return f"The {adjective} {thing}"
        if form == 1:
            return f"{self.name(LAST, 0.6)} {thing}"
        if form == 2:
            number = f" {self.integer(1, 99)}" if self.rng.random() < 0.3 else ""
            return f"{self.rng.choice([adjective, thing])} {thing}{number}".replace(
                f"{thing} {thing}", thing
            )
        return f"{self.name(FIRST, 0.5)}'s {thing}"

    def _title(self) -> str:
        form = self.rng.randrange(8)
        a, b = self.word().capitalize(), self.word().capitalize()
        thing, adjective = self.rng.choice(THINGS), self.rng.choice(ADJECTIVES)
        return [
            f"The {a} of {b}", f"{a} {b}", f"{adjective} {thing}", f"{a}", f"{thing} for {self.name(FIRST)}",
            f"A {thing} in {self.name(pool('city'))}", f"{a} {self.integer(2, 99)}", f"Mr. {b}'s {thing}",
        ][form]  # fmt: skip

    def _colour(self) -> str:
        return self.pick(COLOURS) if self.rng.random() < 0.85 else self.pseudo()

    def _language(self) -> str:
        return self.name(pool("language"), 0.15)

    def _product(self) -> str:
        form = self.rng.random()
        if form < 0.5:
            return self.pick(PRODUCTS)
        return self.pseudo() if form < 0.7 else f"{self.rng.choice(COLOURS)} {self.pick(PRODUCTS)}"

    def _food(self) -> str:
        return self.pick(FOOD) if self.rng.random() < 0.75 else self.pseudo()

    def _animal(self) -> str:
        return self.pick(ANIMALS) if self.rng.random() < 0.85 else self.pseudo()

    def _username(self) -> str:
        base = self.name(FIRST, 0.5).lower()
        return self.rng.choice([
            base, f"{base}{self.integer(1, 99)}", f"{base}_{self.word()}", f"{base}.{self.name(LAST).lower()}",
            f"{self.word()}-{base}",
        ])  # fmt: skip

    def _email(self) -> str:
        domain = (
            f"{self.word()}.{self.rng.choice(['com', 'org', 'net', 'io', 'de', 'co.uk', 'fr'])}"
        )
        return f"{self._username()}@{domain}"

    def _phone(self) -> str:
        forms = [f"+{self.integer(1, 99)} {self.digits(3)} {self.digits(4)}",
                 f"555-{self.digits(4)}", f"0{self.digits(3)} {self.digits(6)}",
                 f"{self.digits(3)}-{self.digits(3)}-{self.digits(4)}"]  # fmt: skip
        return self.rng.choice(forms)

    def _date(self) -> str:
        return f"{self.integer(2023, 2029)}-{self.integer(1, 12):02d}-{self.integer(1, 28):02d}"

    def _day(self) -> str:
        return f"{self.integer(1, 28)} {self.rng.choice(MONTHS)}"

    def _time(self) -> str:
        return (
            f"{self.integer(0, 23):02d}:{self.rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50]):02d}"
        )

    def _code(self) -> str:
        two, three = self.letters(2), self.letters(3)
        return self.rng.choice([
            f"{two}-{self.digits(2)}-{self.digits(2)}", f"{three}{self.digits(3)}", f"{two}-{self.digits(4)}",
            f"{self.letters(1)}{self.digits(2)}-{three}", f"{three}-{self.digits(2)}", f"{two}{self.digits(4)}",
        ])  # fmt: skip

    def _order_id(self) -> str:
        form = self.rng.randrange(3)
        return [f"{self.letters(1)}{self.digits(5)}", self.digits(6), f"ORD-{self.digits(4)}"][form]

    def _file(self) -> str:
        stem = self.word() + self.rng.choice(
            ["", "", f"_{self.word()}", f"-{self.integer(1, 40)}", f"{self.integer(1, 9)}"]
        )
        return f"{stem}.{self.rng.choice(SUFFIXES)}"

    def _folder(self) -> str:
        return self.rng.choice([self.word(), f"/{self.word()}/{self.word()}", f"{self.word()}/{self.word()}",
                                f"~/{self.word()}"])  # fmt: skip

    def _url(self) -> str:
        return f"https://{self.word()}.{self.rng.choice(['com', 'org', 'net', 'io'])}" + (
            f"/{self.word()}" if self.rng.random() < 0.5 else ""
        )

    def _version(self) -> str:
        return f"{self.integer(0, 20)}.{self.integer(0, 20)}" + (
            f".{self.integer(0, 20)}" if self.rng.random() < 0.7 else ""
        )

    def _street(self) -> str:
        return f"{self.integer(1, 250)} {self.name(LAST, 0.4)} {self.rng.choice(STREETS)}"

    def _note(self) -> str:
        return " ".join(self.word() for _ in range(self.integer(2, 5)))

    def _word(self) -> str:
        return self.word()

    def _topic(self) -> str:
        return f"{self.word()} {self.word()}"
