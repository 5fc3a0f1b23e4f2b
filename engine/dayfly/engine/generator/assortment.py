"""What the imaginary furniture shop sells, and what people who want it search for."""

from dataclasses import dataclass
from typing import Final

__all__ = ["CITIES", "INTERESTS", "STORES", "Interest", "Product"]


@dataclass(frozen=True, slots=True)
class Product:
    """One article; `price` in CNY."""

    product_id: str
    category: str
    material: str
    price: float
    audience: str
    room: str


@dataclass(frozen=True, slots=True)
class Interest:
    """Why somebody comes: their queries, in Chinese and English, and the products they look at.

    Attributes:
        name: Short name.
        share: Share of people who have it (a person may have two).
        queries: Words typed.
        products: Articles viewed.
        install: Probability of asking about installation after looking.
    """

    name: str
    share: float
    queries: tuple[str, ...]
    products: tuple[Product, ...]
    install: float


def _range(
    category: str, materials: tuple[str, ...], *, low: float, room: str, audience: str = "adults"
) -> tuple[Product, ...]:
    """Twelve products of a category: every material in turn, prices rising from `low`."""
    return tuple(
        Product(
            f"{category.upper()}-{number:02d}",
            category,
            materials[number % len(materials)],
            round(low * (1 + 0.35 * number) - 0.1, 2),
            audience,
            room,
        )
        for number in range(12)
    )


INTERESTS: Final = (
    Interest(
        "small-flat storage",
        0.35,
        (
            "小户型收纳",
            "小户型收纳柜",
            "小户型收纳 床底",
            "small flat storage",
            "narrow wardrobe 40cm",
            "小户型收纳 折叠",
        ),
        _range("storage", ("oak", "pine", "steel"), low=199.0, room="hallway"),
        0.04,
    ),
    Interest(
        "sofa materials",
        0.30,
        ("真皮沙发", "布艺沙发", "绒布沙发 好打理吗", "leather or fabric sofa", "velvet sofa green"),
        _range("sofa", ("leather", "fabric", "velvet", "linen"), low=1_899.0, room="living room"),
        0.12,
    ),
    Interest(
        "children's furniture",
        0.20,
        ("儿童床", "儿童书桌 可升降", "上下铺", "bunk bed", "kids desk"),
        _range("kids", ("pine", "birch", "plastic"), low=349.0, room="children's room", audience="children"),
        0.08,
    ),
    Interest(
        "kitchen",
        0.15,
        ("橱柜 定制", "厨房岛台", "kitchen island", "worktop oak", "水槽 安装"),
        _range("kitchen", ("oak", "steel", "laminate"), low=2_499.0, room="kitchen"),
        0.20,
    ),
)

CITIES: Final = ("Shanghai", "Beijing", "Chengdu", "Hangzhou", "Shenzhen", "Wuhan")

STORES: Final = ("sh-12", "sh-03", "bj-01", "cd-02")
